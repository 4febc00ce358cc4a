/** What a person gets to read when an object is wrong. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseAllDocuments, stringify } from 'yaml';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, istio, SIDECAR, service } from './compiled.ts';

const route = (fields: string) => istio('VirtualService', 'a', `hosts: [web]\nhttp: [{ ${fields} }]`);
const TO_WEB = 'route: [{ destination: { host: web } }]';
const rule = (policy: string) => istio('DestinationRule', 'a', `host: web\ntrafficPolicy: { ${policy} }`);
const entry = (fields: string) => istio('ServiceEntry', 'a', `hosts: [a.example.org]\n${fields}`);

/** YAML, and the whole sentence or a part of it. */
const MISTAKES: readonly (readonly [string, string, string | RegExp])[] = [
  [
    'a field is misspelt',
    route('retrys: {}'),
    'spec.http[0].retrys: unknown field "retrys"; did you mean "retries"? (VirtualService default/a)',
  ],
  [
    'a field is written as in Envoy',
    route(`${TO_WEB}, cors_policy: {}`),
    /unknown field "cors_policy"; did you mean "corsPolicy"\?/,
  ],
  ['a field is unknown', route(`${TO_WEB}, wibble: 1`), /unknown field "wibble" \(/],
  [
    'a duration has no unit',
    route(`${TO_WEB}, timeout: 3`),
    /timeout: a duration such as "1\.5s" or "250ms" is wanted, got 3/,
  ],
  ['a duration is no duration', route(`${TO_WEB}, timeout: soon`), /got "soon"/],
  [
    'a value is none of a set',
    rule('loadBalancer: { simple: ROUND_ROBBIN }'),
    /one of .*ROUND_ROBIN.* is wanted, got "ROUND_ROBBIN"; did you mean ROUND_ROBIN\?/,
  ],
  [
    'a port is out of range',
    route('route: [{ destination: { host: web, port: { number: 70000 } } }]'),
    /a whole number from 1 to 65535 is wanted, got 70000/,
  ],
  ['a list is no list', route('route: { destination: { host: web } }'), /route: a list is wanted, got/],
  ['a string is a number', route('route: [{ destination: { host: 5 } }]'), /host: a string is wanted, got 5/],
  ['a list has an empty entry', route('route: [null]'), /route\[0\]: an empty entry is not allowed/],
  ['a rule does nothing', route('name: x'), /one of route, redirect, directResponse and delegate is required/],
  [
    'a rule does two things',
    route(`${TO_WEB}, redirect: {}`),
    /only one of route, redirect, directResponse and delegate/,
  ],
  ['a destination has no host', route('route: [{ destination: {} }]'), /destination\.host: a host is required/],
  [
    'all weights are 0',
    route('route: [{ destination: { host: a } }, { destination: { host: b } }]'),
    /must not all be 0/,
  ],
  [
    'a weight is negative',
    route('route: [{ destination: { host: a }, weight: -1 }]'),
    /a weight of 0 or more is wanted, got -1/,
  ],
  [
    'a string match has two kinds',
    route(`match: [{ uri: { exact: a, prefix: b } }], ${TO_WEB}`),
    /uri: only one of exact, prefix and regex/,
  ],
  [
    'a uri match has no kind',
    route(`match: [{ uri: {} }], ${TO_WEB}`),
    /uri: one of exact, prefix and regex is required/,
  ],
  [
    'a header has a space',
    route(`${TO_WEB}, headers: { request: { set: { "a b": c } } }`),
    /set\.a b: a header name is wanted, got "a b"/,
  ],
  [
    'a header to remove is empty',
    route(`${TO_WEB}, headers: { response: { remove: [""] } }`),
    /remove\[0\]: a header name is wanted, got ""/,
  ],
  [
    'a header value breaks the line',
    route(`${TO_WEB}, headers: { request: { add: { a: "b\\r\\nc: d" } } }`),
    /add\.a: a header value must not contain line breaks/,
  ],
  [
    'a kind is misspelt',
    istio('VirtualServise', 'a', 'hosts: [web]'),
    /kind: networking\.istio\.io has no kind "VirtualServise"; did you mean VirtualService\?/,
  ],
  [
    'a kind is in the wrong group',
    istio('PeerAuthentication', 'a', 'mtls: {}'),
    /networking\.istio\.io has no kind "PeerAuthentication"; it has VirtualService,/,
  ],
  [
    'a VirtualService of the mesh takes all hosts',
    istio('VirtualService', 'a', `hosts: ["*"]\nhttp: [{ ${TO_WEB} }]`),
    /hosts\[0\]: the host "\*" is for gateways/,
  ],
  [
    'a host has a port',
    istio('VirtualService', 'a', `hosts: ["web:80"]\nhttp: [{ ${TO_WEB} }]`),
    /a host name, or one with a leading "\*", is wanted, got "web:80"/,
  ],
  [
    'a static endpoint is a name',
    entry('resolution: STATIC\nendpoints: [{ address: b.example.org }]'),
    /resolution STATIC needs an IP address, got "b\.example\.org"/,
  ],
  [
    'a regular expression is none',
    route(`match: [{ uri: { regex: "(a" } }], ${TO_WEB}`),
    /uri\.regex: an RE2 regular expression is wanted, got "\(a"/,
  ],
  [
    'a regular expression looks ahead',
    route(`match: [{ headers: { x: { regex: "a(?=b)" } } }], ${TO_WEB}`),
    /headers\.x\.regex: an RE2 regular expression is wanted/,
  ],
  [
    'a redirect has an odd code',
    route('redirect: { redirectCode: 305 }'),
    /one of 301, 302, 303, 307, 308 is wanted, got 305/,
  ],
  [
    'a redirect has two ports',
    route('redirect: { port: 1, derivePort: FROM_REQUEST_PORT }'),
    /only one of port and derivePort/,
  ],
  ['an abort has no status', route(`${TO_WEB}, fault: { abort: {} }`), /one of httpStatus and grpcStatus is required/],
  [
    'an abort has an unknown gRPC status',
    route(`${TO_WEB}, fault: { abort: { grpcStatus: NOPE } }`) + service('web', 80),
    /grpcStatus: a gRPC status name such as "UNAVAILABLE" is wanted, got "NOPE"/,
  ],
  ['a delay is exponential', route(`${TO_WEB}, fault: { delay: { exponentialDelay: 1s } }`), /fixedDelay is required/],
  [
    'a VirtualService has no rules',
    istio('VirtualService', 'a', 'hosts: [web]'),
    /at least one of http, tls and tcp is required/,
  ],
  [
    'a VirtualService has a wildcard inside',
    istio('VirtualService', 'a', `hosts: ["a.*"]\nhttp: [{ ${TO_WEB} }]`),
    /hosts\[0\]: a host name, or one with a leading "\*"/,
  ],
  [
    'a delegate delegates',
    istio('VirtualService', 'a', 'http: [{ delegate: { name: b } }]'),
    /a delegate cannot delegate again/,
  ],
  ['a DestinationRule has no host', istio('DestinationRule', 'a', 'subsets: []'), /spec\.host: a host is required/],
  [
    'a subset is there twice',
    istio('DestinationRule', 'a', 'host: web\nsubsets: [{ name: v1 }, { name: v1 }]'),
    /subsets\[1\]\.name: subset "v1" is there twice/,
  ],
  [
    'a hash has two keys',
    rule('loadBalancer: { consistentHash: { useSourceIp: true, httpHeaderName: x } }'),
    /exactly one of httpHeaderName/,
  ],
  [
    'a balancer is two things',
    rule('loadBalancer: { simple: RANDOM, consistentHash: { useSourceIp: true } }'),
    /only one of simple and consistentHash/,
  ],
  [
    'MUTUAL has no key',
    rule('tls: { mode: MUTUAL, clientCertificate: /c.pem }'),
    /tls\.privateKey: mode MUTUAL needs a client certificate and its private key/,
  ],
  [
    'a percentage is over 100',
    rule('outlierDetection: { maxEjectionPercent: 101 }'),
    /from 0 to 100 is wanted, got 101/,
  ],
  [
    'a ServiceEntry has a wildcard to resolve',
    istio('ServiceEntry', 'a', 'hosts: ["*.x.org"]\nresolution: DNS'),
    /cannot be resolved; give endpoints, or use resolution NONE or DYNAMIC_DNS/,
  ],
  ['a ServiceEntry port has no name', entry('ports: [{ number: 80 }]'), /ports\[0\]: name is required/],
  [
    'a Service is an alias of nothing',
    'apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { type: ExternalName }',
    /externalName is required/,
  ],
  [
    'a Service port has no number',
    'apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { ports: [{ name: http }] }',
    /spec\.ports\[0\]: port is required/,
  ],
  [
    'a Deployment has no template',
    'apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: a }\nspec: {}',
    /template is required/,
  ],
];

describe('compile', () => {
  for (const [what, yaml, wanted] of MISTAKES) {
    it(`compile says what is wrong and where when ${what}`, () => {
      assert.throws(
        () => new Compiled(yaml),
        (error: unknown) => {
          assert.ok(error instanceof ConfigError, String(error));
          assert.match(String(error.origin), /^test\.yaml:\d+:\d+$/);
          if (typeof wanted === 'string') assert.equal(error.message, wanted);
          else assert.match(error.message, wanted);
          return true;
        },
      );
    });
  }

  it('compile points at the line and column of the field when it is there', () => {
    const yaml =
      'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: a }\nspec:\n  host: web\n  trafficPolicy:\n    loadBalancer:\n      simple: FAST\n';
    assert.throws(
      () => new Compiled(yaml),
      (error: unknown) => error instanceof ConfigError && error.origin === 'test.yaml:8:15',
    );
  });

  it('compile passes unknown fields over when they are allowed', () => {
    const yaml = service('web', 80) + route(`${TO_WEB}, wibble: 1`);
    assert.equal(new Compiled(yaml, { allowUnknownFields: true }).result.warnings.length, 0);
  });

  it('compile refuses a MeshConfig when a value is wrong', () => {
    assert.throws(() => new Compiled('', { mesh: { connectTimeout: 10 } }), /connectTimeout: a duration/);
    assert.throws(
      () => new Compiled('', { mesh: { outboundTrafficPolicy: { mode: 'DENY' } } }),
      /ALLOW_ANY, REGISTRY_ONLY/,
    );
  });
});

const CRDS = join(import.meta.dirname, '../../../../shared/data/istio-crd-validation');
/** YAML 1.2 reads the address as a map (a plain scalar in brackets cannot end in a colon); Go's parser does not. */
const NOT_YAML = '001:db8::';

describe('compile and the validation of Istio', { skip: existsSync(CRDS) ? false : `no data at ${CRDS}` }, () => {
  for (const kind of existsSync(CRDS) ? ['destinationrule', 'serviceentry', 'workloadentry'] : []) {
    for (const validity of ['valid', 'invalid']) {
      const file = join(CRDS, `${kind}-${validity}.yaml`);
      for (const [index, text] of documents(file).entries()) {
        it(`compile agrees with Istio when it reads document ${index} of ${kind}-${validity}.yaml`, () => {
          if (validity === 'valid') new Compiled(text, { mode: SIDECAR });
          else assert.throws(() => new Compiled(text, { mode: SIDECAR }), ConfigError);
        });
      }
    }
  }
});

/** Each document by itself, without the note of what Istio says of it. */
function documents(file: string): string[] {
  const text = readFileSync(file, 'utf8').replace(NOT_YAML, `"${NOT_YAML}"`);
  const parsed = parseAllDocuments(text);
  if (!Array.isArray(parsed)) return [];
  return parsed.flatMap((document) => {
    const json: unknown = document.toJS();
    if (json === null || typeof json !== 'object') return [];
    const { _err: _note, ...object } = json as Record<string, unknown>;
    return [stringify(object)];
  });
}
