module besteffort.dev/cluster/pause

go 1.24.0

tool besteffort.dev/cluster/pause
