// Checks each object of a JSON list on standard input against the schema of its kind, and prints a JSON list of what is
// wrong.
import { readFileSync } from 'node:fs';
import { PrometheusRule, ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index';
import { ScrapeConfig } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1alpha1/index';

const kinds = { PrometheusRule, ServiceMonitor, ScrapeConfig };
const wrong = [];
for (const object of JSON.parse(readFileSync(0, 'utf8'))) {
  try {
    new kinds[object.kind](object).validate();
  } catch (error) {
    wrong.push(`${object.kind}: ${error.message}`);
  }
}
console.log(JSON.stringify(wrong));
