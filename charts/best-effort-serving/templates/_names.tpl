{{/* Names, labels and images, each said once. */}}

{{- define "bes.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "bes.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "bes.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Objects without a namespace: two releases of one name in two namespaces must not meet. */}}
{{- define "bes.clusterName" -}}
{{- $name := include "bes.fullname" . -}}
{{- if eq $name .Release.Namespace -}}
{{- $name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace $name -}}
{{- end -}}
{{- end }}

{{- define "bes.routerRole" -}}{{ include "bes.clusterName" . }}-router{{- end }}
{{- define "bes.trainingRole" -}}{{ include "bes.clusterName" . }}-training{{- end }}

{{- define "bes.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "bes.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false: name an account that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "bes.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "bes.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: best-effort-serving
{{- end }}

{{/* Call with (list . "component"). */}}
{{- define "bes.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "bes.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* One of our own images: call with (list . .Values.images.x). */}}
{{- define "bes.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $root.Values.images.registry -}}
{{- $repository := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
{{- include "bes.reference" (dict "repository" $repository "tag" (default $root.Chart.AppVersion $image.tag) "digest" $image.digest) -}}
{{- end }}

{{- define "bes.reference" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end }}

{{- define "bes.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the Pod Security Standard "restricted" asks of a pod, and of each of its containers. */}}
{{- define "bes.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "bes.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
