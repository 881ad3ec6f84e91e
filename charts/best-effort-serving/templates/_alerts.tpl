{{/*
Alerts, for a Prometheus Operator and for the chart's own Prometheus. Each says what is wrong and what to look at.
Braces of Prometheus' own templates are written as text so that Helm leaves them alone.
*/}}
{{- define "bes.alerts" -}}
groups:
- name: best-effort-serving.operator
  rules:
  - alert: BestEffortOperatorRestarts
    expr: changes(process_start_time_seconds{job=~".*{{ include "bes.fullname" . }}.*"}[30m]) > 2
    labels: {severity: warning}
    annotations:
      summary: {{ `The operator {{ $labels.pod }} has started {{ $value }} times within half an hour` | quote }}
      description: Services go on serving, but changes wait. Look at the log of the pod's previous container.
- name: best-effort-serving.services
  rules:
  - alert: BestEffortLoadFiguresUnknown
    expr: avg by (namespace, besteffort_dev_service) (bes_router_load_figures_known) < 0.5
    for: 10m
    labels: {severity: warning}
    annotations:
      summary: {{ `Routers of {{ $labels.namespace }}/{{ $labels.besteffort_dev_service }} do not know the load of most engines` | quote }}
      description: They decide by their own requests alone, which costs quality where there are several. The condition LoadFigures of the service says why.
  - alert: BestEffortFallbackDecides
    expr: max by (namespace, besteffort_dev_service) (bes_router_policy_is_fallback) == 1
    for: 15m
    labels: {severity: info}
    annotations:
      summary: {{ `The fallback rule decides for {{ $labels.namespace }}/{{ $labels.besteffort_dev_service }}` | quote }}
      description: Normal until a first policy is trained. Later the condition PolicyReady of the service says why.
  - alert: BestEffortModelDown
    expr: max by (namespace, besteffort_dev_service, model) (bes_router_backend_ready) == 0
    for: 5m
    labels: {severity: warning}
    annotations:
      summary: {{ `No engine of {{ $labels.model }} is ready in {{ $labels.namespace }}/{{ $labels.besteffort_dev_service }}` | quote }}
      description: Its requests go to other models. Look at the model's Deployment.
{{- end }}
