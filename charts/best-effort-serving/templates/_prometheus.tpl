{{/* How the chart's own Prometheus finds engines and routers: by their pods' labels and the ports' names. */}}
{{- define "bes.prometheusConfig" -}}
global:
  scrape_interval: {{ .Values.prometheus.scrapeSeconds }}s
  scrape_timeout: {{ min .Values.prometheus.scrapeSeconds 10 }}s
  evaluation_interval: 30s
rule_files: [alerts.yml]
scrape_configs:
- job_name: best-effort-serving
  kubernetes_sd_configs:
  - role: pod
    {{- with .Values.watchNamespaces }}
    namespaces:
      names: {{ toJson . }}
    {{- end }}
    selectors:
    - role: pod
      label: besteffort.dev/component in (engine, router)
  relabel_configs:
  - action: keep
    source_labels: [__meta_kubernetes_pod_label_besteffort_dev_component, __meta_kubernetes_pod_container_port_name]
    regex: engine;http|router;admin
  - action: drop
    source_labels: [__meta_kubernetes_pod_phase]
    regex: Succeeded|Failed
  - action: labelmap
    regex: __meta_kubernetes_pod_label_(besteffort_dev_(?:component|service|model))
  - source_labels: [__meta_kubernetes_namespace]
    target_label: namespace
  - source_labels: [__meta_kubernetes_pod_name]
    target_label: pod
- job_name: best-effort-serving-operator
  kubernetes_sd_configs:
  - role: pod
    namespaces:
      names: {{ toJson (list .Release.Namespace) }}
    selectors:
    - role: pod
      label: {{ include "bes.selector" (list . "operator") | replace ": " "=" | replace "\n" "," }}
  relabel_configs:
  - action: keep
    source_labels: [__meta_kubernetes_pod_container_port_name]
    regex: metrics
  - source_labels: [__meta_kubernetes_namespace]
    target_label: namespace
  - source_labels: [__meta_kubernetes_pod_name]
    target_label: pod
{{- end }}
