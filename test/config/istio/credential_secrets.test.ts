/** A DestinationRule's credentialName finds its Kubernetes Secret. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../../proxy/config_error.ts';
import { checkResource } from '../../../config/build/check.ts';
import { MeshCa } from '../../support/mesh_ca.ts';
import { Compiled } from './compiled.ts';

const ca = new MeshCa();
const pair = ca.issue(undefined, { commonName: 'client' });
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const indent = (text: string): string => text.trimEnd().replaceAll('\n', '\n    ');

const entryAndRule = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: outside }
spec:
  hosts: [outside.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{ number: 443, name: https, protocol: HTTP }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: outside }
spec:
  host: outside.example
  trafficPolicy: { tls: { mode: MUTUAL, credentialName: client } }
---
`;

test('certificate, key and roots come from one Secret, or the roots from their own', () => {
  const one = `apiVersion: v1\nkind: Secret\nmetadata: { name: client }\ndata: { tls.crt: ${base64(pair.chain)}, tls.key: ${base64(pair.key)}, ca.crt: ${base64(ca.pem)} }\n`;
  const two = `apiVersion: v1\nkind: Secret\nmetadata: { name: client }\nstringData:\n  cert: |\n    ${indent(pair.chain)}\n  key: |\n    ${indent(pair.key)}\n---\napiVersion: v1\nkind: Secret\nmetadata: { name: client-cacert }\nstringData:\n  cacert: |\n    ${indent(ca.pem)}\n`;
  for (const yaml of [one, two]) {
    const { resources } = new Compiled(entryAndRule + yaml).result;
    const secrets = resources.filter(({ type }) => type === 'secret');
    assert.deepEqual(secrets.map(({ name }) => name).sort(), ['kubernetes://client', 'kubernetes://client-cacert']);
    for (const secret of secrets) assert.equal(checkResource(secret), undefined);
  }
});

test('a Secret of another namespace is none, and one that nobody names is not read', () => {
  const foreign = 'apiVersion: v1\nkind: Secret\nmetadata: { name: client, namespace: other }\n';
  const unnamed = 'apiVersion: v1\nkind: Secret\nmetadata: { name: unnamed }\ndata: { password: c2VjcmV0 }\n';
  const { resources } = new Compiled(`${entryAndRule}${foreign}---\n${unnamed}`).result;
  assert.deepEqual(
    resources.filter(({ type }) => type === 'secret'),
    [],
  );
});

test('a Secret without a key is named, and its content is not', () => {
  const yaml = `apiVersion: v1\nkind: Secret\nmetadata: { name: client }\ndata: { tls.crt: ${base64(pair.chain)}, ca.crt: ${base64(ca.pem)} }\n`;
  assert.throws(
    () => new Compiled(entryAndRule + yaml).result,
    (error) =>
      error instanceof ConfigError &&
      /Cannot use Secret "client" \(test\.yaml:\d+\): it has no tls\.key or key/.test(error.message) &&
      !error.message.includes(base64(pair.chain).slice(0, 30)),
  );
});
