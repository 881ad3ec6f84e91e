// Command pause holds a pod's namespaces open until it is told to end, and reaps what the pod's processes leave behind.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	told := make(chan os.Signal, 8)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for each := range told {
		if each != syscall.SIGCHLD {
			return
		}
		for {
			if ended, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); ended <= 0 {
				break
			}
		}
	}
}
