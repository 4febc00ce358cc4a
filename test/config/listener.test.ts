/** What a listener's resource is refused for, by field, and what is put right with a warning. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildListener } from '../../config/build/listener.ts';
import type { Json } from '../../config/resources.ts';
import { listenerFilter, tcpListener, tcpProxy } from '../support/tcp_resources.ts';

const chain = (filter_chain_match?: Json): Json => ({
  ...(filter_chain_match !== undefined && { filter_chain_match }),
  filters: [tcpProxy({ cluster: 'up' })],
});
const build = (more: Json) => buildListener(tcpListener('up', more).json, 'test:1');

const refused: readonly (readonly [says: string, more: Json, path: string, complaint: RegExp])[] = [
  [
    'a matcher chooses chains without names',
    { filter_chain_matcher: {} },
    'filter_chains[0].name',
    /is required beside filter_chain_matcher/,
  ],
  ['it may bind what is not there', { freebind: true }, 'freebind', /not supported/],
  ['it is internal', { internal_listener: {} }, 'internal_listener', /not supported/],
  ['options are given by number', { socket_options: [{}] }, 'socket_options', /not supported/],
  ['it has no chain', { filter_chains: [] }, 'filter_chains', /at least one filter chain is required/],
  [
    'two chains match the same connections',
    { filter_chains: [chain({ server_names: ['a', 'b'] }), chain({ server_names: ['B'] })] },
    'filter_chains[1].filter_chain_match',
    /matches the same connections as filter_chains\[0\]/,
  ],
  [
    'a listener filter is unknown',
    { listener_filters: [{ name: 'x', typed_config: { '@type': 'type.googleapis.com/a.b.Original' } }] },
    'listener_filters[0].typed_config',
    /listener filter "x" has type a\.b\.Original, which this version does not execute/,
  ],
  [
    'a predicate says nothing',
    { listener_filters: [listenerFilter('tls_inspector', {}, { filter_disabled: {} })] },
    'listener_filters[0].filter_disabled.any_match',
    /one of or_match/,
  ],
];

for (const [says, more, path, complaint] of refused) {
  test(`a listener is refused with its field when ${says}`, () => {
    assert.throws(
      () => build(more),
      (error: Error & { path?: string }) => {
        assert.equal(error.path, path);
        assert.match(error.message, complaint);
        return true;
      },
    );
  });
}

for (const [says, match, adds] of [
  ['names servers', { server_names: ['a.b'] }, true],
  ['names application protocols', { application_protocols: ['h2'] }, true],
  ['wants TLS', { transport_protocol: 'tls' }, true],
  ['names protocols of plain text', { transport_protocol: 'raw_buffer', application_protocols: ['h2c'] }, false],
  ['names a port', { destination_port: 80 }, false],
] as const) {
  test(`a TLS inspector is ${adds ? 'added, with a warning,' : 'not added'} when a chain ${says}`, () => {
    const { listenerFilters, warnings } = build({ filter_chains: [chain(match)] });
    assert.deepEqual(
      listenerFilters.map(({ name }) => name),
      adds ? ['envoy.filters.listener.tls_inspector'] : [],
    );
    assert.equal(warnings.length, adds ? 1 : 0);
    if (adds)
      assert.match(
        warnings[0] as string,
        /filter_chains\[0\]\.filter_chain_match asks for what only a TLS inspector finds out/,
      );
  });
}

test('an original_dst filter comes first where use_original_dst asks for it', () => {
  const { listenerFilters } = build({ use_original_dst: true, listener_filters: [listenerFilter('tls_inspector')] });
  assert.deepEqual(
    listenerFilters.map(({ name }) => name),
    ['envoy.filters.listener.original_dst', 'envoy.filters.listener.tls_inspector'],
  );
});
