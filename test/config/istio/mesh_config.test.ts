/** What fields of MeshConfig change in the resources of a sidecar, and what is said of those that change nothing. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, dig, digList, istio, SIDECAR, service } from './compiled.ts';

const PROXY = { name: 'web-0', namespace: 'default', labels: { app: 'web' }, serviceAccount: 'web', ips: ['10.0.0.1'] };
const YAML =
  service('web', 80, ['10.0.0.1']) +
  service('raw', 7000, ['10.0.0.2']).replace('name: http', 'name: unnamed') +
  istio('DestinationRule', 'raw', 'host: raw\ntrafficPolicy: { tls: { mode: SIMPLE } }');

const compiled = (mesh: Record<string, unknown>, proxy = PROXY): Compiled =>
  new Compiled(YAML, { mesh, proxy, mode: SIDECAR });

const inboundChains = (result: Compiled): readonly unknown[] =>
  digList(result.json('listener', 'virtualInbound'), 'filter_chains');
const inboundTls = (result: Compiled): unknown =>
  inboundChains(result)
    .map((chain) => dig(chain, 'transport_socket', 'typed_config', 'common_tls_context', 'tls_params'))
    .find((found) => found !== undefined);

describe('MeshConfig', () => {
  it('protocolDetectionTimeout bounds how long a server that speaks first is kept waiting', () => {
    for (const [mesh, wanted] of [
      [{}, '0s'],
      [{ protocolDetectionTimeout: '5s' }, '5s'],
    ] as const) {
      for (const name of ['virtualInbound', '0.0.0.0_7000']) {
        const listener = compiled(mesh).json('listener', name);
        assert.equal(dig(listener, 'listener_filters_timeout'), wanted);
        assert.equal(dig(listener, 'continue_on_listener_filters_timeout'), true);
      }
    }
  });

  it('inboundTrafficPolicy LOCALHOST leads inbound connections to the loopback address', () => {
    const place = (mesh: Record<string, unknown>): unknown => {
      const cluster = compiled(mesh).json('cluster', 'inbound|8080||');
      return [
        dig(cluster, 'type'),
        dig(cluster, 'load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address', 'socket_address'),
      ];
    };
    assert.deepEqual(place({}), ['ORIGINAL_DST', undefined]);
    assert.deepEqual(place({ inboundTrafficPolicy: { mode: 'LOCALHOST' } }), [
      'STATIC',
      { address: '127.0.0.1', port_value: 8080 },
    ]);
  });

  it('meshMTLS is for mutual TLS that arrives, tlsDefaults for TLS that a rule asks for', () => {
    const strict = { minProtocolVersion: 'TLSV1_3', ecdhCurves: ['P-256'] };
    const outbound = (result: Compiled): unknown =>
      dig(
        result.json('cluster', 'outbound|7000||raw.default.svc.cluster.local'),
        'transport_socket',
        'typed_config',
        'common_tls_context',
        'tls_params',
      );
    const mesh = compiled({ meshMTLS: strict });
    assert.equal(dig(inboundTls(mesh), 'tls_minimum_protocol_version'), 'TLSv1_3');
    assert.deepEqual(dig(inboundTls(mesh), 'ecdh_curves'), ['P-256']);
    assert.equal(digList(inboundTls(mesh), 'cipher_suites').length, 6);
    assert.equal(dig(outbound(mesh), 'tls_minimum_protocol_version'), 'TLSv1_2');
    const defaults = compiled({ tlsDefaults: { ...strict, cipherSuites: ['ECDHE-RSA-AES256-GCM-SHA384'] } });
    assert.equal(dig(inboundTls(defaults), 'tls_minimum_protocol_version'), 'TLSv1_2');
    assert.deepEqual(outbound(defaults), {
      tls_minimum_protocol_version: 'TLSv1_3',
      tls_maximum_protocol_version: 'TLSv1_3',
      cipher_suites: ['ECDHE-RSA-AES256-GCM-SHA384'],
      ecdh_curves: ['P-256'],
    });
  });

  it('defaultInboundHttpRetryPolicy changes how often the application is asked again, or that it is not', () => {
    const policy = (mesh: Record<string, unknown>): unknown => {
      const manager = inboundChains(compiled(mesh))
        .flatMap((chain) => digList(chain, 'filters'))
        .find((filter) => dig(filter, 'typed_config', 'route_config', 'name') === 'inbound|8080||');
      return dig(manager, 'typed_config', 'route_config', 'virtual_hosts', 0, 'routes', 0, 'route', 'retry_policy');
    };
    assert.deepEqual(policy({}), { retry_on: 'reset-before-request', num_retries: 2 });
    assert.equal(policy({ defaultInboundHttpRetryPolicy: {} }), undefined);
    assert.deepEqual(policy({ defaultInboundHttpRetryPolicy: { attempts: 1, retryOn: '5xx', backoff: '10ms' } }), {
      retry_on: '5xx',
      num_retries: 1,
      retry_back_off: { base_interval: '0.010s' },
    });
  });

  it('proxyListenPort and proxyInboundListenPort move the two listeners, and what must not come back to them', () => {
    const result = compiled({ proxyListenPort: 25001, proxyInboundListenPort: 25006 });
    for (const [name, port] of [
      ['virtualOutbound', 25001],
      ['virtualInbound', 25006],
    ] as const) {
      const listener = result.json('listener', name);
      assert.equal(dig(listener, 'address', 'socket_address', 'port_value'), port);
      assert.equal(dig(listener, 'filter_chains', 0, 'filter_chain_match', 'destination_port'), port);
    }
  });

  it('applications are reached from a source of the family that the pod has', () => {
    const source = (ips: string[]): unknown =>
      dig(compiled({}, { ...PROXY, ips }).json('cluster', 'InboundPassthroughCluster'), 'upstream_bind_config');
    const at = (address: string) => ({ address, port_value: 0 });
    assert.deepEqual(source(['10.0.0.1']), { source_address: at('127.0.0.6') });
    assert.deepEqual(source(['fd00::1']), { source_address: at('::6') });
    assert.deepEqual(source(['10.0.0.1', 'fd00::1']), {
      source_address: at('127.0.0.6'),
      extra_source_addresses: [{ address: at('::6') }],
    });
  });

  it('interceptionMode TPROXY leaves the application the address of its client, by the mesh or the Pod itself', () => {
    const inbound = (mesh: Record<string, unknown>, yaml = YAML): unknown[] => {
      const listener = new Compiled(yaml, { mesh, proxy: PROXY, mode: SIDECAR }).json('listener', 'virtualInbound');
      return [
        dig(listener, 'transparent') ?? false,
        digList(listener, 'listener_filters').some((filter) => dig(filter, 'typed_config', 'mark') === 1337),
      ];
    };
    const annotated = (mode: string): string =>
      YAML.replace(
        'name: web-0, namespace: default,',
        (name) => `${name} annotations: { sidecar.istio.io/interceptionMode: ${mode} },`,
      );
    const everywhere = { defaultConfig: { interceptionMode: 'TPROXY' } };
    assert.deepEqual(inbound({}), [false, false]);
    assert.deepEqual(inbound(everywhere), [true, true]);
    assert.deepEqual(inbound({}, annotated('TPROXY')), [true, true]);
    assert.deepEqual(inbound(everywhere, annotated('REDIRECT')), [false, false]);
    const outbound = compiled(everywhere).json('listener', 'virtualOutbound');
    assert.equal(dig(outbound, 'transparent'), true);
  });

  it('says what has no effect, and what it may have meant; what is of others is passed over', () => {
    const { warnings } = compiled({
      ingressClass: 'istio',
      outboundClusterStatName: '%SERVICE%',
      outboundTraficPolicy: {},
    }).result;
    assert.deepEqual(
      warnings.filter((warning) => warning.startsWith('MeshConfig')),
      [
        'MeshConfig: "outboundClusterStatName" is not executed by this version.',
        'MeshConfig has no field "outboundTraficPolicy"; did you mean "outboundTrafficPolicy"?',
      ],
    );
  });

  it('is refused with the field when a value is none', () => {
    for (const mesh of [{ meshMTLS: { minProtocolVersion: 'TLSV1_1' } }, { proxyListenPort: 70000 }])
      assert.throws(() => compiled(mesh), ConfigError);
  });
});
