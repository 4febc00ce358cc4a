import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, readWorkloads } from '../../../config/istio/compile.ts';
import type { KubeObject } from '../../../config/kube_object.ts';
import { kubeObjects } from '../../support/kube_objects.ts';
import { Compiled, dig, digList, EXPLICIT, istio, SIDECAR, service } from './compiled.ts';

const CANARY = `
hosts: [reviews]
http:
- match: [{ headers: { end-user: { exact: jason } } }]
  route: [{ destination: { host: reviews, subset: v2 } }]
- route:
  - { destination: { host: reviews, subset: v1 }, weight: 90 }
  - { destination: { host: reviews, subset: v2 }, weight: 10 }
`;
const SUBSETS = `
host: reviews
subsets:
- { name: v1, labels: { version: v1 } }
- { name: v2, labels: { version: v2 } }
`;

describe('explicit mode', () => {
  it('explicit mode names each HTTP port of a service in every form when the client is in its namespace', () => {
    const routes = new Compiled(service('reviews', 9080)).json('route', 'http_proxy');
    const [host, rest] = digList(routes, 'virtual_hosts');
    assert.deepEqual(dig(host, 'domains'), [
      'reviews.default.svc.cluster.local:9080',
      'reviews.default.svc.cluster.local.:9080',
      'reviews:9080',
      'reviews.default.svc:9080',
      'reviews.default:9080',
    ]);
    assert.deepEqual(dig(rest, 'domains'), ['*']);
  });

  it('explicit mode also takes names without a port when the port is 80', () => {
    const compiled = new Compiled(service('web', 80) + service('pay', 80, [], 'ops'));
    assert.equal(dig(compiled.host('web'), 'name'), 'web.default.svc.cluster.local:80');
    assert.equal(dig(compiled.host('web:80'), 'name'), 'web.default.svc.cluster.local:80');
    assert.equal(dig(compiled.host('pay.ops'), 'name'), 'pay.ops.svc.cluster.local:80');
    assert.throws(() => compiled.host('pay'), /no virtual host/);
  });

  it('explicit mode resolves short names in the namespace of the workload when one is given', () => {
    const yaml = service('pay', 80, [], 'ops');
    const proxy = { name: 'a', namespace: 'ops', labels: {}, serviceAccount: 'a', ips: [] };
    assert.equal(dig(new Compiled(yaml, { proxy }).host('pay'), 'name'), 'pay.ops.svc.cluster.local:80');
  });

  it('explicit mode forwards unknown hosts by their name, or refuses them under REGISTRY_ONLY', () => {
    const open = new Compiled(service('web', 80)).host('*');
    assert.equal(dig(open, 'name'), 'allow_any');
    assert.equal(dig(open, 'routes', 0, 'route', 'cluster'), 'dynamic_forward_proxy');
    const closed = new Compiled(service('web', 80), { mesh: { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } } });
    assert.equal(dig(closed.host('*'), 'routes', 0, 'direct_response', 'status'), 502);
  });

  it('explicit mode applies a VirtualService and the subsets of a DestinationRule when both are there', () => {
    const yaml =
      service('reviews', 9080, ['10.0.0.1', '10.0.0.2']) +
      istio('VirtualService', 'reviews', CANARY) +
      istio('DestinationRule', 'reviews', SUBSETS);
    const compiled = new Compiled(yaml);
    const routes = digList(compiled.host('reviews:9080'), 'routes');
    assert.equal(routes.length, 2);
    assert.equal(dig(routes, 0, 'route', 'cluster'), 'outbound|9080|v2|reviews.default.svc.cluster.local');
    assert.deepEqual(dig(routes, 1, 'route', 'weighted_clusters', 'clusters'), [
      { name: 'outbound|9080|v1|reviews.default.svc.cluster.local', weight: 90 },
      { name: 'outbound|9080|v2|reviews.default.svc.cluster.local', weight: 10 },
    ]);
    assert.deepEqual(compiled.addresses('outbound|9080|v2|reviews.default.svc.cluster.local'), ['10.0.0.2:8080']);
    const [summary] = compiled.result.services;
    assert.deepEqual(summary?.shapedBy, ['VirtualService/reviews', 'DestinationRule/reviews']);
    assert.deepEqual(summary?.workloads, ['reviews-0', 'reviews-1']);
    assert.deepEqual(compiled.result.warnings, []);
  });

  it('explicit mode speaks plain text without mesh certificates when Pods ask for mutual TLS', () => {
    const yaml = service('web', 80, ['10.0.0.1']).replace('version: v1', 'security.istio.io/tlsMode: istio');
    const cluster = new Compiled(yaml).json('cluster', 'outbound|80||web.default.svc.cluster.local');
    assert.equal(dig(cluster, 'transport_socket_matches'), undefined);
    assert.equal(dig(cluster, 'transport_socket'), undefined);
    assert.notEqual(
      dig(
        new Compiled(yaml, { mode: SIDECAR }).json('cluster', 'outbound|80||web.default.svc.cluster.local'),
        'transport_socket_matches',
      ),
      undefined,
    );
  });

  it('explicit mode reaches headless services by their Pods and wildcard entries by the requested name', () => {
    const headless = service('db', 6000, ['10.0.0.1']).replace('spec: { selector', 'spec: { clusterIP: None, selector');
    const entry = istio(
      'ServiceEntry',
      'any',
      'hosts: ["*.example.org"]\nports: [{ number: 80, name: http, protocol: HTTP }]',
    );
    const compiled = new Compiled(headless + entry);
    assert.deepEqual(compiled.addresses('outbound|6000||db.default.svc.cluster.local'), ['10.0.0.1:8080']);
    assert.equal(
      dig(compiled.json('cluster', 'outbound|80||*.example.org'), 'cluster_type', 'name'),
      'envoy.clusters.dynamic_forward_proxy',
    );
  });

  it('explicit mode opens an inbound listener towards the application when an entry asks for it', () => {
    const mode = {
      ...EXPLICIT,
      inbound: [{ ip: '127.0.0.1', port: 0, workloadPort: 8080, app: { ip: '127.0.0.2', port: 8080 } }],
    };
    const proxy = { name: 'web-0', namespace: 'default', labels: { app: 'web' }, serviceAccount: 'web', ips: [] };
    const compiled = new Compiled(service('web', 80), { mode, proxy });
    const manager = dig(compiled.json('listener', 'inbound_8080'), 'filter_chains', 0, 'filters', 0, 'typed_config');
    const route = dig(manager, 'route_config', 'virtual_hosts', 0, 'routes', 0);
    assert.equal(dig(manager, 'server_name'), 'istio-envoy');
    assert.equal(dig(manager, 'forward_client_cert_details'), 'APPEND_FORWARD');
    assert.equal(dig(route, 'decorator', 'operation'), 'web.default.svc.cluster.local:80/*');
    assert.deepEqual(dig(route, 'route', 'retry_policy'), { retry_on: 'reset-before-request', num_retries: 2 });
    const assignment = dig(compiled.json('cluster', 'inbound|8080||'), 'load_assignment');
    assert.deepEqual(dig(assignment, 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'), {
      socket_address: { address: '127.0.0.2', port_value: 8080 },
    });
  });

  it('explicit mode refuses two inbound entries when they name one workload port', () => {
    const entry = { ip: '127.0.0.1', port: 0, workloadPort: 8080, app: { ip: '127.0.0.1', port: 8080 } };
    const mode = { ...EXPLICIT, inbound: [entry, { ...entry, port: 1 }] };
    assert.throws(() => new Compiled('', { mode }), /workload port 8080 twice/);
  });

  it('explicit mode writes the access log when asked, whatever the mesh says', () => {
    const manager = (mode: typeof EXPLICIT | (Omit<typeof EXPLICIT, 'accessLog'> & { accessLog: 'JSON' | 'TEXT' })) =>
      dig(new Compiled('', { mode }).json('listener', 'outbound'), 'filter_chains', 0, 'filters', 0, 'typed_config');
    assert.equal(dig(manager(EXPLICIT), 'access_log'), undefined);
    const text = dig(manager({ ...EXPLICIT, accessLog: 'TEXT' }), 'access_log', 0, 'typed_config');
    assert.match(
      String(dig(text, 'log_format', 'text_format_source', 'inline_string')),
      /^\[%START_TIME%\] .*%ROUTE_NAME%\n$/,
    );
    const json = dig(manager({ ...EXPLICIT, accessLog: 'JSON' }), 'access_log', 0, 'typed_config');
    assert.equal(dig(json, 'log_format', 'json_format', 'response_code'), '%RESPONSE_CODE%');
  });
});

const DEPLOYMENT = `
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web-v1 }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web, version: v1 } }
    spec: { serviceAccountName: web, containers: [{ name: app, ports: [{ name: main, containerPort: 9090 }] }] }
`;
const NAMED_PORT = service('web', 80).replace('targetPort: 8080', 'targetPort: main');

describe('workloads', () => {
  it('a Deployment is a workload at the given address when no Pod of it is there', () => {
    const asked: string[] = [];
    const compiled = new Compiled(NAMED_PORT + DEPLOYMENT, {
      endpointAddress: (workload, port) => {
        asked.push(`${workload.kind}/${workload.name}:${port}`);
        return { ip: '127.0.0.1', port: 20001 };
      },
    });
    assert.deepEqual(asked, ['Deployment/web-v1:9090']);
    assert.deepEqual(compiled.addresses('outbound|80||web.default.svc.cluster.local'), ['127.0.0.1:20001']);
    assert.deepEqual(
      compiled.result.workloads.map(({ kind, name, ports }) => ({ kind, name, ports })),
      [{ kind: 'Deployment', name: 'web-v1', ports: [{ name: 'main', number: 9090 }] }],
    );
    assert.equal(compiled.result.services[0]?.ports[0]?.targetPort, 9090);
  });

  it('a Deployment gives way when Pods of it are there', () => {
    const compiled = new Compiled(service('web', 80, ['10.0.0.1']) + DEPLOYMENT);
    assert.deepEqual(
      compiled.result.workloads.map((workload) => workload.kind),
      ['Pod'],
    );
  });

  it('a Deployment without an address is no endpoint', () => {
    assert.deepEqual(new Compiled(NAMED_PORT + DEPLOYMENT).addresses('outbound|80||web.default.svc.cluster.local'), []);
  });

  it('a Pod that is not ready is an unhealthy endpoint, and one that ended is none', () => {
    const yaml = service('web', 80, ['10.0.0.1', '10.0.0.2', '10.0.0.3'])
      .replace('{ podIP: 10.0.0.2 }', '{ podIP: 10.0.0.2, conditions: [{ type: Ready, status: "False" }] }')
      .replace('{ podIP: 10.0.0.3 }', '{ podIP: 10.0.0.3, phase: Succeeded }');
    const cluster = 'outbound|80||web.default.svc.cluster.local';
    const compiled = new Compiled(yaml);
    assert.deepEqual(compiled.addresses(cluster), ['10.0.0.1:8080', '10.0.0.2:8080']);
    assert.deepEqual(
      digList(compiled.json('endpoint', cluster), 'endpoints', 0, 'lb_endpoints').map((item) =>
        dig(item, 'health_status'),
      ),
      ['HEALTHY', 'UNHEALTHY'],
    );
  });

  it('a name to resolve has a cluster only where its subset has an endpoint', () => {
    const entry = (resolution: string) =>
      istio(
        'ServiceEntry',
        'a',
        `hosts: [a.example.org]\nresolution: ${resolution}\nports: [{ number: 80, name: http, protocol: HTTP }]\nendpoints: [{ address: b.example.org, labels: { version: v1 } }]`,
      );
    const rule = istio(
      'DestinationRule',
      'a',
      'host: a.example.org\nsubsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]',
    );
    for (const resolution of ['DNS', 'DNS_ROUND_ROBIN']) {
      const names = new Compiled(entry(resolution) + rule)
        .names('cluster')
        .filter((name) => name.startsWith('outbound'));
      assert.deepEqual(names, ['outbound|80||a.example.org', 'outbound|80|v1|a.example.org']);
    }
  });

  it('a machine known by name only is no endpoint of a service with addresses', () => {
    const entry = istio(
      'ServiceEntry',
      'a',
      'hosts: [a.example.org]\nresolution: STATIC\nports: [{ number: 80, name: http, protocol: HTTP }]\nworkloadSelector: { labels: { app: vm } }',
    );
    const machine = (name: string, address: string) =>
      istio('WorkloadEntry', name, `address: ${address}\nlabels: { app: vm }`);
    const compiled = new Compiled(entry + machine('a', '10.0.0.1') + machine('b', 'vm.example.org'));
    assert.deepEqual(compiled.addresses('outbound|80||a.example.org'), ['10.0.0.1:80']);
  });

  it('readWorkloads finds Pods, Deployments and WorkloadEntries', () => {
    const yaml = service('pod', 80, ['10.0.0.1']) + DEPLOYMENT + istio('WorkloadEntry', 'vm', 'address: 10.0.0.9');
    assert.deepEqual(
      readWorkloads({ objects: kubeObjects(yaml) }).map(({ kind, name }) => `${kind}/${name}`),
      ['Pod/pod-0', 'Deployment/web-v1', 'WorkloadEntry/vm'],
    );
  });

  it("a service of two address families has the endpoints of the client's own", () => {
    const slice = (family: string, address: string) => `
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-${family}, labels: { kubernetes.io/service-name: web } }
addressType: ${family}
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: ["${address}"] }]
`;
    const yaml = service('web', 80) + slice('IPv4', '10.0.0.1') + slice('IPv6', 'fd00::1');
    const seen = (ips: string[]) => {
      const proxy = { name: 'a', namespace: 'default', labels: {}, serviceAccount: 'a', ips };
      return new Compiled(yaml, { proxy }).addresses('outbound|80||web.default.svc.cluster.local');
    };
    assert.deepEqual(seen([]), ['10.0.0.1:8080']);
    assert.deepEqual(seen(['10.0.0.2', 'fd00::2']), ['10.0.0.1:8080']);
    assert.deepEqual(seen(['fd00::2']), ['fd00::1:8080']);
  });

  it('endpoints have both addresses of their Pods when client, service and Pods have both families, as in istiod', () => {
    const slice = (family: string, address: string) => `
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-${family}, labels: { kubernetes.io/service-name: web } }
addressType: ${family}
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: ["${address}"], targetRef: { kind: Pod, name: web-0 } }]
`;
    const pod = `
---
apiVersion: v1
kind: Pod
metadata: { name: web-0, labels: { app: web } }
spec: { containers: [{ name: app }] }
status: { podIP: 10.0.0.1, podIPs: [{ ip: 10.0.0.1 }, { ip: "fd00::1" }] }`;
    const webService = (spec: string) => `
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: 8080 }]${spec} }`;
    const dual = webService(', clusterIPs: ["10.9.9.9", "fd09::9"]');
    const seen = (yaml: string, ips: string[]) => {
      const proxy = { name: 'a', namespace: 'default', labels: {}, serviceAccount: 'a', ips };
      const json = new Compiled(yaml, { proxy }).json('endpoint', 'outbound|80||web.default.svc.cluster.local');
      return digList(json, 'endpoints', 0, 'lb_endpoints').map((item) => {
        const more = digList(item, 'endpoint', 'additional_addresses').map((place) => dig(place, 'address'));
        return [dig(item, 'endpoint', 'address'), ...more].map((place) => dig(place, 'socket_address', 'address'));
      });
    };
    const both = [['10.0.0.1', 'fd00::1']];
    const slices = slice('IPv4', '10.0.0.1') + slice('IPv6', 'fd00::1');
    assert.deepEqual(seen(dual + pod + slices, ['10.0.0.2', 'fd00::2']), both);
    // No slices, as in a file by hand; the service says what it asks of the API server.
    assert.deepEqual(seen(webService(', ipFamilyPolicy: PreferDualStack') + pod, ['10.0.0.2', 'fd00::2']), both);
    assert.deepEqual(seen(dual + pod + slices, ['10.0.0.2']), [['10.0.0.1']]);
    assert.deepEqual(seen(dual + pod + slices, ['fd00::2']), [['fd00::1']]);
    assert.deepEqual(seen(webService('') + pod + slices, ['10.0.0.2', 'fd00::2']), [['10.0.0.1']]);
  });

  it('a Pod takes its locality from its Node', () => {
    const node = `
---
apiVersion: v1
kind: Node
metadata: { name: n1, labels: { topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1 } }
`;
    const yaml =
      service('web', 80, ['10.0.0.1']).replace('serviceAccountName', 'nodeName: n1, serviceAccountName') + node;
    const assignment = new Compiled(yaml).json('endpoint', 'outbound|80||web.default.svc.cluster.local');
    assert.deepEqual(dig(assignment, 'endpoints', 0, 'locality'), { region: 'r1', zone: 'z1' });
  });
});

describe('warnings', () => {
  it('kinds that do not concern the mesh are passed over in silence', () => {
    const yaml =
      'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n---\napiVersion: v1\nkind: Secret\nmetadata: { name: b }\n';
    assert.deepEqual(new Compiled(yaml).result.warnings, []);
  });

  it('a destination that leads nowhere is named with the nearest service or the missing subset', () => {
    const rule = (host: string) =>
      istio('VirtualService', 'a', `hosts: [reviews]\nhttp: [{ route: [{ destination: { host: ${host} } }] }]`);
    const warning = (host: string) => new Compiled(service('reviews', 80) + rule(host)).result.warnings;
    assert.match(String(warning('review')[0]), /no service is called "review\.default.*did you mean "reviews\.default/);
    assert.match(
      String(warning('reviews, subset: v9')[0]),
      /test\.yaml:\d+:\d+: no DestinationRule defines the subset "v9"/,
    );
    assert.deepEqual(warning('reviews'), []);
  });

  it('an object that is there twice is named with both places, and the one read later holds, as with kubectl', () => {
    const rule = (weight: string) =>
      istio(
        'VirtualService',
        'a',
        `hosts: [web]\nhttp: [{ name: ${weight}, route: [{ destination: { host: web } }] }]`,
      );
    const twice = new Compiled(service('web', 80) + rule('first') + rule('second'));
    assert.deepEqual(
      digList(twice.host('web'), 'routes').map((route) => dig(route, 'name')),
      ['second'],
    );
    assert.match(
      String(twice.result.warnings),
      /^test\.yaml:\d+:\d+: VirtualService "a" of namespace "default" replaces the one of test\.yaml:\d+:\d+, which was read before it\.$/,
    );
    assert.deepEqual(new Compiled(service('web', 80) + rule('first') + rule('first')).result.warnings, []);
  });

  it('a VirtualService for gateways only is named where there are none', () => {
    const rule = (gateways: string) =>
      new Compiled(
        service('web', 80) +
          istio('VirtualService', 'a', `hosts: [web]\n${gateways}http: [{ route: [{ destination: { host: web } }] }]`),
      ).result.warnings;
    assert.match(String(rule('gateways: [front]\n')), /VirtualService "a" holds for default\/front only, and gateways/);
    assert.deepEqual(rule('gateways: [front, mesh]\n'), []);
    assert.deepEqual(rule(''), []);
  });

  it('faults are told to the fault filter of explicit listeners too', () => {
    const rule = `hosts: [web]\nhttp: [{ route: [{ destination: { host: web } }], fault: { abort: { httpStatus: 500 } } }]`;
    const compiled = new Compiled(service('web', 80) + istio('VirtualService', 'a', rule));
    assert.deepEqual(compiled.result.warnings, []);
    const config = dig(compiled.host('web'), 'routes', 0, 'typed_per_filter_config', 'envoy.filters.http.fault');
    assert.deepEqual((config as { abort: unknown }).abort, { http_status: 500 });
  });

  it('a retry condition that does not exist is refused', () => {
    const rule = (on: string) =>
      `hosts: [web]\nhttp: [{ route: [{ destination: { host: web } }], retries: { attempts: 2, retryOn: "${on}" } }]`;
    const compile = (on: string) => new Compiled(service('web', 80) + istio('VirtualService', 'a', rule(on)));
    assert.throws(() => compile('5xx,on-tuesdays'), /"on-tuesdays" is not a retry condition: 5xx, /);
    assert.equal(
      dig(compile('5xx,503, reset').host('web'), 'routes', 0, 'route', 'retry_policy', 'retry_on'),
      '5xx,reset,retriable-status-codes',
    );
  });

  it('outlier detection is named when so few hosts cannot be ejected', () => {
    const rule = (percent: number) =>
      istio(
        'DestinationRule',
        'web',
        `host: web\ntrafficPolicy: { outlierDetection: { maxEjectionPercent: ${percent} } }`,
      );
    const warnings = (percent: number) =>
      new Compiled(service('web', 80, ['10.0.0.1', '10.0.0.2']) + rule(percent)).result.warnings;
    assert.match(String(warnings(10)[0]), /ejects nothing from web.*of 2 hosts.*50 is the least/);
    assert.deepEqual(warnings(50), []);
  });

  it('settings of a DestinationRule that change nothing are named, wherever they stand', () => {
    const rule = istio(
      'DestinationRule',
      'web',
      `host: web
trafficPolicy:
  loadBalancer: { zoneAwareLbSetting: { minSize: 6 } }
subsets:
- { name: v1, trafficPolicy: { portLevelSettings: [{ port: { number: 80 }, outlierDetection: { outlierDetectionHttpErrorCodes: { codes: [429] } } }] } }`,
    );
    const { warnings } = new Compiled(service('web', 80, ['10.0.0.1']) + rule).result;
    assert.match(warnings.join('\n'), /DestinationRule "web" has a zoneAwareLbSetting, which is not executed/);
    assert.match(warnings.join('\n'), /"web" has outlierDetectionHttpErrorCodes, which are not executed/);
  });
});

describe('compile', () => {
  it('compile gives a resource the same version when its content is the same', () => {
    const [a, b] = [new Compiled(service('web', 80, ['10.0.0.1'])), new Compiled(service('web', 80, ['10.0.0.2']))];
    const versions = ({ result }: Compiled) =>
      new Map(result.resources.map((item) => [`${item.type} ${item.name}`, item.version]));
    const cluster = 'outbound|80||web.default.svc.cluster.local';
    assert.equal(versions(a).get(`cluster ${cluster}`), versions(b).get(`cluster ${cluster}`));
    assert.notEqual(versions(a).get(`endpoint ${cluster}`), versions(b).get(`endpoint ${cluster}`));
    assert.match(String(versions(a).get(`cluster ${cluster}`)), /^[0-9a-f]{16}$/);
  });

  it('compile names the object that decided each resource', () => {
    const yaml = service('web', 80) + istio('DestinationRule', 'web', 'host: web');
    const { resources } = new Compiled(yaml).result;
    const origin = (type: string) =>
      resources.find((item) => item.type === type && item.name.startsWith('outbound|80|'))?.origin;
    assert.equal(origin('cluster'), 'test.yaml:9');
    assert.equal(origin('endpoint'), 'test.yaml:3');
  });

  it('compile takes less than a second when there are 1,000 services with 10 Pods each', () => {
    const objects = manyServices(1000, 10);
    const input = { objects, mesh: {}, proxy: undefined, domain: 'cluster.local', mode: EXPLICIT };
    const start = process.cpuUsage();
    const { services } = compile(input);
    const { user, system } = process.cpuUsage(start);
    assert.equal(services.length, 1000);
    assert.ok((user + system) / 1e6 < 1.5, `${(user + system) / 1e6} s of CPU`);
  });
});

describe('connectionManager', () => {
  it('connectionManager normalises paths as the mesh says', () => {
    const fields = (normalization: string | undefined) => {
      const mesh = normalization === undefined ? {} : { pathNormalization: { normalization } };
      const manager = dig(
        new Compiled('', { mesh }).json('listener', 'outbound'),
        'filter_chains',
        0,
        'filters',
        0,
        'typed_config',
      );
      return [
        dig(manager, 'normalize_path'),
        dig(manager, 'merge_slashes'),
        dig(manager, 'path_with_escaped_slashes_action'),
      ];
    };
    assert.deepEqual(fields(undefined), [true, undefined, 'KEEP_UNCHANGED']);
    assert.deepEqual(fields('BASE'), [true, undefined, 'KEEP_UNCHANGED']);
    assert.deepEqual(fields('NONE'), [false, undefined, undefined]);
    assert.deepEqual(fields('MERGE_SLASHES'), [true, true, 'KEEP_UNCHANGED']);
    assert.deepEqual(fields('DECODE_AND_MERGE_SLASHES'), [true, true, 'UNESCAPE_AND_FORWARD']);
  });

  it('connectionManager counts for Prometheus unless the mesh has no such provider', () => {
    const filters = (mesh: Record<string, unknown>) =>
      digList(
        new Compiled('', { mesh }).json('listener', 'outbound'),
        'filter_chains',
        0,
        'filters',
        0,
        'typed_config',
        'http_filters',
      ).map((item) => dig(item, 'name'));
    const always = ['grpc_stats', 'fault', 'cors'].map((name) => `envoy.filters.http.${name}`);
    assert.deepEqual(filters({}), [...always, 'istio.stats', 'envoy.filters.http.router']);
    assert.deepEqual(filters({ defaultProviders: { metrics: [] } }), [...always, 'envoy.filters.http.router']);
  });
});

function manyServices(count: number, pods: number): KubeObject[] {
  const out: KubeObject[] = [];
  const add = (apiVersion: string, kind: string, name: string, labels: Record<string, string>, rest: object) => {
    const source = { file: 'many.yaml', line: 1, locate: () => 'many.yaml:1:1' };
    const json = { apiVersion, kind, ...rest };
    const order = out.length;
    out.push({
      apiVersion,
      kind,
      name,
      namespace: 'default',
      labels,
      annotations: {},
      creationMs: undefined,
      order,
      json,
      source,
    });
  };
  for (let index = 0; index < count; index++) {
    const app = `service-${index}`;
    const ports = [{ name: 'http', port: 1000 + index, targetPort: 8080 }];
    add('v1', 'Service', app, {}, { spec: { selector: { app }, ports } });
    for (let pod = 0; pod < pods; pod++) {
      const podIP = `10.${index >> 8}.${index & 255}.${pod + 1}`;
      add(
        'v1',
        'Pod',
        `${app}-${pod}`,
        { app, version: `v${pod % 3}` },
        { spec: { serviceAccountName: app }, status: { podIP } },
      );
    }
    const subsets = ['v0', 'v1', 'v2'].map((name) => ({ name, labels: { version: name } }));
    add('networking.istio.io/v1', 'DestinationRule', app, {}, { spec: { host: app, subsets } });
    const http = [{ route: [{ destination: { host: app, subset: 'v1' } }] }];
    add('networking.istio.io/v1', 'VirtualService', app, {}, { spec: { hosts: [app], http } });
  }
  return out;
}
