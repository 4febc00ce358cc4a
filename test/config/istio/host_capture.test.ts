/** A VirtualService that claims another namespace's host: exportTo is honoured, and the claim is named with its place (attacks.md row 48). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Compiled, dig, digList, istio, service } from './compiled.ts';

const PAY = 'pay.team-a.svc.cluster.local';
const TEAM_A_PAY = service('pay', 80, [], 'team-a');
const answer = (status: number) => `http: [{ directResponse: { status: ${status} } }]`;
const claim = (hosts: string, more = '', namespace = 'team-b') =>
  istio('VirtualService', 'steal', `hosts: [${hosts}]\n${more}\n${answer(299)}`, namespace);
const from = (namespace: string) => ({
  proxy: { name: 'me', namespace, labels: { app: 'me' }, serviceAccount: 'me', ips: [] },
});

/** The status that a client of `namespace` gets from what the rule says; undefined: the service itself answers. */
function answered(yaml: string, namespace: string): unknown {
  const host = new Compiled(yaml, from(namespace)).host(PAY);
  return dig(digList(host, 'routes')[0], 'direct_response', 'status');
}

/** Sentences about captures only. */
const warnings = (yaml: string, namespace = 'team-a') =>
  new Compiled(yaml, from(namespace)).result.warnings.filter((text) => text.includes('exportTo'));

describe('a VirtualService of team-b for a host of team-a', () => {
  it('holds for its own namespace only when exportTo says so, and nobody is warned', () => {
    const yaml = TEAM_A_PAY + claim(PAY, 'exportTo: ["."]');
    assert.equal(answered(yaml, 'team-b'), 299);
    assert.equal(answered(yaml, 'team-a'), undefined);
    assert.equal(answered(yaml, 'team-c'), undefined);
    assert.deepEqual(warnings(yaml), []);
  });

  it('holds for the namespaces that exportTo names, and is named', () => {
    const yaml = TEAM_A_PAY + claim(PAY, 'exportTo: [team-c, team-d]');
    assert.equal(answered(yaml, 'team-c'), 299);
    assert.equal(answered(yaml, 'team-a'), undefined);
    assert.match(warnings(yaml).join(), /for clients of team-c, team-d; exportTo: \["\."\]/);
  });

  it('is nobody’s when exportTo is ~, whatever the mesh’s default', () => {
    const yaml = TEAM_A_PAY + claim(PAY, 'exportTo: ["~"]');
    for (const namespace of ['team-a', 'team-b']) assert.equal(answered(yaml, namespace), undefined);
    assert.deepEqual(warnings(yaml), []);
  });

  it('holds for everybody without exportTo, as in Istio, and is named with both places', () => {
    const yaml = TEAM_A_PAY + claim(`web, ${PAY}`);
    assert.equal(answered(yaml, 'team-a'), 299);
    const [sentence, ...others] = warnings(yaml);
    assert.deepEqual(others, []);
    assert.match(
      sentence ?? '',
      /^\S+:\d+:\d+: VirtualService "steal" of namespace "team-b" routes pay\.team-a\.svc\.cluster\.local, of namespace "team-a" \(\S+:\d+:\d+\), for clients of every namespace; /,
    );
    // Of the two hosts it is the second one's place.
    const column = (text: string) => Number(/^\S+:\d+:(\d+): /.exec(text)?.[1]);
    const [alone] = warnings(TEAM_A_PAY + claim(PAY));
    assert.ok(column(sentence ?? '') > column(alone ?? ''));
  });

  it('follows the mesh’s default of exportTo', () => {
    const yaml = TEAM_A_PAY + claim(PAY);
    const compiled = new Compiled(yaml, { ...from('team-a'), mesh: { defaultVirtualServiceExportTo: ['.'] } });
    assert.deepEqual(
      compiled.result.warnings.filter((text) => text.includes('exportTo')),
      [],
    );
    assert.equal(dig(digList(compiled.host(PAY), 'routes')[0], 'direct_response'), undefined);
  });

  it('is named when a wildcard of it covers the host, once for all that it covers', () => {
    const yaml = TEAM_A_PAY + service('cart', 80, [], 'team-a') + claim('"*.team-a.svc.cluster.local"');
    assert.match(warnings(yaml).join('\n'), /^[^\n]+routes pay\.team-a\.svc\.cluster\.local and 1 more, [^\n]+$/);
  });

  it('of a ServiceEntry too', () => {
    const entry = istio(
      'ServiceEntry',
      'bank',
      'hosts: [bank.example]\nports: [{ number: 80, name: http, protocol: HTTP }]\nresolution: DNS',
      'team-a',
    );
    assert.match(warnings(entry + claim('bank.example')).join(), /routes bank\.example, of namespace "team-a"/);
  });
});

it('own hosts, unknown hosts, gateways and the root namespace are no captures', () => {
  for (const yaml of [
    TEAM_A_PAY + claim(PAY, '', 'team-a'),
    TEAM_A_PAY + claim('elsewhere.example'),
    TEAM_A_PAY + claim(PAY, 'gateways: [in]'),
    TEAM_A_PAY + claim(PAY, '', 'istio-system'),
  ]) {
    assert.deepEqual(warnings(yaml), [], yaml);
  }
});
