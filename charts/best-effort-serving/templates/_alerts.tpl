{{/*
Alerts, for a Prometheus Operator and for the chart's own Prometheus. Each says what is wrong and what to look at.
Braces of Prometheus' own templates are written as text so that Helm leaves them alone. The operator's "namespace" label
is where it runs; a service's is service_namespace.
*/}}
{{- define "bes.alerts" -}}
groups:
- name: best-effort-serving.operator
  rules:
  - alert: BestEffortOperatorRestarts
    expr: changes(process_start_time_seconds[30m]) > 2 and on (namespace, pod) bes_operator_leader
    labels: {severity: warning}
    annotations:
      summary: {{ `The operator {{ $labels.pod }} has restarted {{ $value }} times within half an hour` | quote }}
      description: Services go on serving, but changes wait. Look at the log of the pod's previous container.
  - alert: BestEffortOperatorLeaderMissing
    expr: sum by (namespace) (bes_operator_leader) != 1
    for: 3m
    labels: {severity: warning}
    annotations:
      summary: {{ `{{ $value }} operators in {{ $labels.namespace }} hold the Lease instead of one` | quote }}
      description: Without a leader changes wait. Look at the operators' logs, and whether they reach the API server.
  - alert: BestEffortReconcileErrors
    expr: |-
      sum by (namespace) (rate(bes_operator_reconcile_errors_total[10m]))
        / sum by (namespace) (rate(bes_operator_reconcile_seconds_count[10m])) > 0.1
    for: 15m
    labels: {severity: warning}
    annotations:
      summary: {{ `{{ $value | humanizePercentage }} of the operator's passes fail` | quote }}
      description: Its log has the reason; bes_operator_reconcile_errors_total counts by it.
  - alert: BestEffortReconcileLate
    expr: max by (namespace) (bes_operator_queue_oldest_seconds) > 120
    for: 5m
    labels: {severity: warning}
    annotations:
      summary: {{ `A service has waited {{ $value | humanizeDuration }} for the operator` | quote }}
      description: More workers (settings.workers), or a slower API server than usual. Look at bes_operator_reconcile_seconds.
- name: best-effort-serving.services
  rules:
  - alert: BestEffortServiceStalled
    expr: max by (service_namespace, service, reason) (bes_operator_condition{condition="Stalled", status="True"}) == 1
    for: 5m
    labels: {severity: warning}
    annotations:
      summary: {{ `{{ $labels.service_namespace }}/{{ $labels.service }} is stalled: {{ $labels.reason }}` | quote }}
      description: Nothing changes until somebody mends what the condition's message says. What served goes on.
  - alert: BestEffortServiceUnavailable
    expr: max by (service_namespace, service, reason) (bes_operator_condition{condition="Available", status="False"}) == 1
    for: 5m
    labels: {severity: critical}
    annotations:
      summary: {{ `{{ $labels.service_namespace }}/{{ $labels.service }} serves nobody: {{ $labels.reason }}` | quote }}
      description: No router, or no engine of any model, is ready. Look at their pods.
  - alert: BestEffortLoadFigures
    expr: max by (service_namespace, service, reason) (bes_operator_condition{condition="LoadFigures", status="False"}) == 1
    for: 10m
    labels: {severity: warning}
    annotations:
      summary: {{ `Routers of {{ $labels.service_namespace }}/{{ $labels.service }} do not know how loaded engines are: {{ $labels.reason }}` | quote }}
      description: They decide by their own requests alone, which costs quality where there are several. The condition's message has the mend.
  - alert: BestEffortModelDown
    expr: max by (namespace, besteffort_dev_service, model) (bes_router_backend_ready) == 0
    for: 5m
    labels: {severity: warning}
    annotations:
      summary: {{ `No engine of {{ $labels.model }} is ready in {{ $labels.namespace }}/{{ $labels.besteffort_dev_service }}` | quote }}
      description: Its requests go to other models. Look at the model's Deployment.
  - alert: BestEffortFallbackDecides
    expr: max by (namespace, besteffort_dev_service) (bes_router_policy_is_fallback) == 1
    for: 6h
    labels: {severity: info}
    annotations:
      summary: {{ `The fallback rule decides for {{ $labels.namespace }}/{{ $labels.besteffort_dev_service }}` | quote }}
      description: Normal until a first policy is trained. The condition PolicyReady says what it waits for.
{{- end }}
