// Parses each PromQL expression of a JSON list on standard input with Prometheus' own grammar, and prints as a JSON list
// the text at which each one that it does not accept goes wrong.
import { readFileSync } from 'node:fs';
import { parser } from '@prometheus-io/lezer-promql';

const wrong = [];
for (const expression of JSON.parse(readFileSync(0, 'utf8'))) {
  parser.parse(expression).iterate({
    enter: (node) => {
      if (node.type.isError) wrong.push(`${expression}: at ${node.from}`);
    },
  });
}
console.log(JSON.stringify(wrong));
