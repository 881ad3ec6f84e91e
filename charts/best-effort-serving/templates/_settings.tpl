{{/* The operator's settings file. What the chart knows itself comes last: the rights it gives are for exactly that. */}}

{{- define "bes.prometheusName" -}}{{ include "bes.fullname" . }}-prometheus{{- end }}

{{- define "bes.prometheusUrl" -}}
{{- if .Values.defaultPrometheusUrl -}}
{{- .Values.defaultPrometheusUrl -}}
{{- else if .Values.prometheus.enabled -}}
http://{{ include "bes.prometheusName" . }}.{{ .Release.Namespace }}.svc:9090
{{- end -}}
{{- end }}

{{- define "bes.settings" -}}
{{- $images := dict
      "router" (include "bes.image" (list . .Values.images.router))
      "training" (include "bes.image" (list . .Values.images.training))
      "engine" (include "bes.image" (list . .Values.images.engine))
      "pull_policy" .Values.images.pullPolicy
      "pull_secrets" .Values.images.pullSecrets -}}
{{- $own := dict
      "namespace" .Release.Namespace
      "watch_namespaces" .Values.watchNamespaces
      "images" $images
      "router_role" (include "bes.routerRole" .)
      "training_role" (include "bes.trainingRole" .)
      "prometheus_origins" .Values.prometheusOrigins
      "leadership" (dict "lease" (include "bes.fullname" .))
      "health_port" 8080 -}}
{{- with include "bes.prometheusUrl" . -}}
{{- $ours := eq $.Values.defaultPrometheusUrl "" -}}
{{- $_ := set $own "default_prometheus_url" . -}}
{{- $_ := set $own "default_prometheus_scrape_seconds" (ternary $.Values.prometheus.scrapeSeconds $.Values.defaultPrometheusScrapeSeconds $ours) -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.settings) $own) -}}
{{- end }}
