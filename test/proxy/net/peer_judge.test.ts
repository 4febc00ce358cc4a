/** Who was judged is remembered: how long, how many, and what is judged each time. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mock, test } from 'node:test';
import { createSecureContext } from 'node:tls';
import { Certificate } from '../../../proxy/net/tls/certificate.ts';
import type { HandshakeJudge, OpenSsl } from '../../../proxy/net/tls/openssl.ts';
import { PeerJudge, takeRefusal } from '../../../proxy/net/tls/peer_judge.ts';
import type { PeerRules } from '../../../proxy/net/tls/tls_material.ts';
import { MeshCa } from '../../support/mesh_ca.ts';

const ca = new MeshCa();
const der = (pem: string): Buffer => new X509Certificate(pem).raw;
const root = new Certificate(der(ca.pem));
const ALICE = 'spiffe://cluster.local/ns/a/sa/alice';
const CERT_HAS_EXPIRED = 10;

function judged(more: Partial<PeerRules> = {}) {
  let judge: HandshakeJudge = () => assert.fail('nobody was attached');
  const native: OpenSsl = {
    judgeBy(_, by) {
      judge = by;
    },
    sendOnlyOwnChain() {},
    storeOf: () => 0n,
  };
  const rules: PeerRules = {
    chain: true,
    allowExpired: false,
    leafCrlOnly: false,
    revocable: false,
    maxDepth: undefined,
    trustDomains: undefined,
    names: [{ text: 'spiffe://cluster.local/*', matches: ({ value }) => value.startsWith('spiffe://cluster.local/') }],
    certificateHashes: [],
    publicKeyHashes: [],
    ...more,
  };
  const peers = new PeerJudge(rules, native);
  assert.equal(peers.attach(createSecureContext()), true);
  let verified = 0;
  let error = 0;
  return {
    peers,
    get verified() {
      return verified;
    },
    refuseChains() {
      error = CERT_HAS_EXPIRED;
    },
    shows(leaf: Buffer) {
      return judge({
        leaf,
        above: () => [],
        verifyChain() {
          verified++;
          return { error, depth: 0, chain: error === 0 ? [new Certificate(Buffer.from(leaf)), root] : [] };
        },
      });
    },
  };
}

test('a peer that was accepted is verified again only when a certificate of its chain is over', (t) => {
  const leaf = der(ca.issue(ALICE).chain);
  const peers = judged();
  assert.deepEqual([peers.shows(leaf), peers.shows(leaf), peers.verified], [0, 0, 1]);
  t.after(() => mock.restoreAll());
  mock.method(Date, 'now', () => new Certificate(leaf).validToMs);
  peers.refuseChains();
  assert.equal(peers.shows(leaf), CERT_HAS_EXPIRED);
  assert.equal(peers.verified, 2);
  assert.match(takeRefusal()?.reason ?? '', /certificate has expired/);
});

test('another certificate with the same names is another peer', () => {
  const peers = judged();
  peers.shows(der(ca.issue(ALICE).chain));
  peers.refuseChains();
  assert.notEqual(peers.shows(der(new MeshCa().issue(ALICE).chain)), 0);
});

test('a peer is verified each time where certificates can be revoked', () => {
  const leaf = der(ca.issue(ALICE).chain);
  const peers = judged({ revocable: true });
  assert.deepEqual([peers.shows(leaf), peers.shows(leaf), peers.verified], [0, 0, 2]);
});

test('who is refused is not remembered, and the reason is told once', () => {
  const leaf = der(ca.issue('spiffe://elsewhere/ns/a/sa/alice').chain);
  const peers = judged();
  assert.notEqual(peers.shows(leaf), 0);
  assert.notEqual(peers.shows(leaf), 0);
  assert.equal(peers.verified, 2);
  assert.equal(takeRefusal()?.kind, 'san');
  assert.equal(takeRefusal(), undefined);
});

test('512 peers are remembered, the oldest goes first', { timeout: 60_000 }, () => {
  const peers = judged();
  const leaf = der(ca.issue(ALICE).chain);
  // Other bytes in the signature: nobody looks at them here.
  const copy = (n: number): Buffer => {
    const bytes = Buffer.from(leaf);
    bytes.writeUInt16BE(n, bytes.length - 2);
    return bytes;
  };
  for (let i = 0; i <= 512; i++) peers.shows(copy(i));
  assert.equal(peers.verified, 513);
  peers.shows(copy(1));
  assert.equal(peers.verified, 513);
  peers.shows(copy(0));
  assert.equal(peers.verified, 514);
});

test('where OpenSSL cannot be asked, the verdict comes from what Node says after the handshake', () => {
  const { peers: asked } = judged();
  const alice = new Certificate(der(ca.issue(ALICE).chain));
  for (const peers of [asked, new PeerJudge(undefined, null)]) {
    assert.equal(peers.judge(alice, undefined), undefined);
    assert.equal(peers.judge(undefined, undefined)?.kind, 'no_cert');
  }
  assert.equal(new PeerJudge(undefined, null).attach(createSecureContext()), false);
  assert.equal(asked.judge(alice, 'CERT_HAS_EXPIRED')?.kind, 'error');
  const stranger = new Certificate(der(ca.issue('spiffe://elsewhere/x').chain));
  assert.equal(asked.judge(stranger, undefined)?.kind, 'san');
});
