// swift-format-ignore-file

extension SchemaCatalog {
  /// The types of metrics.k8s.io; their schema comes with metrics-server, not with Kubernetes.
  static let metricsTable: StaticString = #"""
:metrics.v1beta1.ContainerMetrics
name=s!;N1
usage={q!;N2
:metrics.v1beta1.NodeMetrics;Gmetrics.k8s.io/v1beta1/NodeMetrics
apiVersion=s
kind=s
metadata=@meta.v1.ObjectMeta;N1
timestamp=t!;N2
usage={q!;N4
window=s!;N3
:metrics.v1beta1.NodeMetricsList;Gmetrics.k8s.io/v1beta1/NodeMetricsList
apiVersion=s
items=[@metrics.v1beta1.NodeMetrics!;N2
kind=s
metadata=@meta.v1.ListMeta;N1
:metrics.v1beta1.PodMetrics;Gmetrics.k8s.io/v1beta1/PodMetrics
apiVersion=s
containers=[@metrics.v1beta1.ContainerMetrics!;N4
kind=s
metadata=@meta.v1.ObjectMeta;N1
timestamp=t!;N2
window=s!;N3
:metrics.v1beta1.PodMetricsList;Gmetrics.k8s.io/v1beta1/PodMetricsList
apiVersion=s
items=[@metrics.v1beta1.PodMetrics!;N2
kind=s
metadata=@meta.v1.ListMeta;N1
"""#
}
