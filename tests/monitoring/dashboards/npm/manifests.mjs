// Read Kubernetes manifests as JSON, and print what the models of Kubernetes and of the Prometheus operator say of each.
import { readFileSync } from "node:fs";
import { PrometheusRule, ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { Deployment } from "kubernetes-models/apps/v1";
import { NetworkPolicy } from "kubernetes-models/networking.k8s.io/v1";
import { ConfigMap, Service } from "kubernetes-models/v1";

const models = { ConfigMap, Deployment, NetworkPolicy, PrometheusRule, Service, ServiceMonitor };
const said = JSON.parse(readFileSync(0, "utf-8")).map((manifest) => {
  try {
    new models[manifest.kind](manifest).validate();
    return null;
  } catch (error) {
    return String(error.message);
  }
});
console.log(JSON.stringify(said));
