import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, dig, digList, EXPLICIT, service } from './compiled.ts';
import { differences, normalise } from './comparison.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/istiod-xds/telemetry');

function telemetry(spec: string, namespace = 'istio-system'): string {
  return `
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: t, namespace: ${namespace} }
spec:
${spec.trim().replaceAll(/^/gm, '  ')}
`;
}

const INBOUND = { ip: '127.0.0.1', port: 15006, workloadPort: 8080, app: { ip: '127.0.0.1', port: 8080 } };
const MODE = { ...EXPLICIT, inbound: [INBOUND] };

interface Filter {
  readonly name: string;
  readonly typed_config: Readonly<Record<string, unknown>>;
}

function manager(
  yaml: string,
  listener: 'outbound' | 'inbound_8080' = 'outbound',
  mesh = {},
): Readonly<Record<string, unknown>> {
  const compiled = new Compiled(service('web', 80) + yaml, { mode: MODE, mesh });
  return dig(compiled.json('listener', listener), 'filter_chains', 0, 'filters', 0, 'typed_config') as Record<
    string,
    unknown
  >;
}

const statsOf = (config: Readonly<Record<string, unknown>>) =>
  (config['http_filters'] as readonly Filter[]).find(({ name }) => name === 'istio.stats')?.typed_config;

describe('Telemetry', () => {
  it('gives the metrics, logs and traces of istiod for the same YAML', {
    skip: existsSync(DATA) ? false : `no data at ${DATA}`,
  }, () => {
    const dump = JSON.parse(readFileSync(join(DATA, 'web-v1-0.xds.json'), 'utf8')) as { listeners: readonly unknown[] };
    const compiled = new Compiled(readFileSync(join(DATA, 'input.yaml'), 'utf8'), {
      mode: MODE,
      mesh: parse(readFileSync(join(DATA, 'mesh.yaml'), 'utf8')) as Record<string, unknown>,
      proxy: { name: 'web-v1-0', namespace: 'shop', labels: { app: 'web' }, serviceAccount: 'web', ips: ['10.44.1.1'] },
    });
    for (const [listener, direction] of [
      ['outbound', 'OUTBOUND'],
      ['inbound_8080', 'INBOUND'],
    ] as const) {
      const theirs = managers(dump.listeners).find((item) => item.direction === direction)?.config as Record<
        string,
        unknown
      >;
      const ours = dig(compiled.json('listener', listener), 'filter_chains', 0, 'filters', 0, 'typed_config') as Record<
        string,
        unknown
      >;
      assert.deepEqual(differences(normalise(theirs['tracing']), normalise(ours['tracing'])), []);
      assert.deepEqual(differences(normalise(theirs['access_log']), normalise(ours['access_log'])), []);
      assert.deepEqual(normalise(statsOf(ours)), normalise(statsOf(theirs)));
    }
  });

  it('overrides the mesh with the namespace, and the namespace with the workload', () => {
    const levels =
      telemetry('tracing: [{ randomSamplingPercentage: 10, customTags: { a: { literal: { value: x } } } }]') +
      telemetry('tracing: [{ randomSamplingPercentage: 20 }]', 'default');
    const tracing = manager(levels)['tracing'];
    assert.equal(dig(tracing, 'random_sampling', 'value'), 20);
    assert.ok(digList(tracing, 'custom_tags').some((tag) => dig(tag, 'tag') === 'a'));
  });

  it('says whether the id of a request decides if it is traced', () => {
    const yaml = telemetry('tracing: [{ useRequestIdForTraceSampling: false }]');
    const decides = (given: Record<string, unknown>): unknown =>
      dig(given, 'request_id_extension', 'typed_config', 'use_request_id_for_trace_sampling');
    assert.equal(decides(manager(yaml)), false);
    assert.equal(decides(manager('')), true);
  });

  it('holds for one side only when match.mode says so', () => {
    const yaml = telemetry(
      'metrics: [{ overrides: [{ match: { metric: REQUEST_SIZE, mode: SERVER }, disabled: true }] }]',
    );
    assert.equal(statsOf(manager(yaml))?.['metrics'], undefined);
    assert.deepEqual(statsOf(manager(yaml, 'inbound_8080'))?.['metrics'], [{ name: 'request_bytes', drop: true }]);
  });

  it('drops every metric when ALL_METRICS are disabled', () => {
    const yaml = telemetry('metrics: [{ overrides: [{ disabled: true }] }]');
    assert.equal(digList(statsOf(manager(yaml)), 'metrics').length, 10);
  });

  it('leaves istio.stats out when metrics go to another provider only', () => {
    const mesh = { extensionProviders: [{ name: 'sd', stackdriver: {} }] };
    assert.equal(statsOf(manager(telemetry('metrics: [{ providers: [{ name: sd }] }]'), 'outbound', mesh)), undefined);
  });

  it('switches the access log off when it is disabled, whatever the mesh says', () => {
    const mesh = { accessLogFile: '/dev/stdout' };
    assert.equal((manager('', 'outbound', mesh)['access_log'] as readonly unknown[]).length, 1);
    const off = telemetry('accessLogging: [{ disabled: true }]');
    assert.equal(manager(off, 'outbound', mesh)['access_log'], undefined);
  });

  it('logs to a provider in its own format when it has one', () => {
    const mesh = {
      extensionProviders: [
        { name: 'file', envoyFileAccessLog: { path: '/tmp/x.log', logFormat: { labels: { m: '%PROTOCOL%' } } } },
      ],
    };
    const [log] = manager(telemetry('accessLogging: [{ providers: [{ name: file }] }]'), 'outbound', mesh)[
      'access_log'
    ] as readonly unknown[];
    assert.equal(dig(log, 'typed_config', 'path'), '/tmp/x.log');
    assert.deepEqual(dig(log, 'typed_config', 'log_format', 'json_format'), { m: '%PROTOCOL%' });
  });

  it('warns when it names a provider that the mesh does not have', () => {
    const compiled = new Compiled(service('web', 80) + telemetry('tracing: [{ providers: [{ name: nobody }] }]'));
    assert.match(
      compiled.result.warnings.join('\n'),
      /tracing provider "nobody", which extensionProviders does not have/,
    );
  });

  it('reports no span when disableSpanReporting is set', () => {
    assert.equal(manager(telemetry('tracing: [{ disableSpanReporting: true }]'))['tracing'], undefined);
  });

  for (const [spec, complaint] of [
    ['metrics: [{ providers: [{ name: "" }] }]', /name of a provider is required/],
    ['metrics: [{ overrides: [{ tagOverrides: { a: { operation: UPSERT } } }] }]', /value must be set/],
    ['metrics: [{ overrides: [{ tagOverrides: { a: { operation: REMOVE, value: x } } }] }]', /value must not be set/],
    ['metrics: [{ overrides: [{ match: { metric: REQUESTS } }] }]', /one of ALL_METRICS, REQUEST_COUNT/],
    ['tracing: [{ randomSamplingPercentage: 101 }]', /from 0 to 100/],
    ['tracing: [{ providers: [{ name: a }, { name: b }] }]', /only one provider/],
    ['tracing: [{ customTags: { a: {} } }]', /one of literal, environment/],
  ] as const) {
    it(`is refused with its place when it says ${spec}`, () => {
      assert.throws(
        () => manager(telemetry(spec)),
        (error: unknown) =>
          error instanceof ConfigError && complaint.test(error.message) && /:\d+:\d+$/.test(error.origin ?? ''),
      );
    });
  }
});

/** Every connection manager of a dump, with the direction of its listener. */
function managers(listeners: readonly unknown[]): { readonly direction: unknown; readonly config: unknown }[] {
  return listeners.flatMap((listener) =>
    digList(listener, 'filter_chains').flatMap((chain) =>
      digList(chain, 'filters')
        .filter((filter) => dig(filter, 'name') === 'envoy.filters.network.http_connection_manager')
        .map((filter) => ({ direction: dig(listener, 'traffic_direction'), config: dig(filter, 'typed_config') })),
    ),
  );
}
