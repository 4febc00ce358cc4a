/** What a connection's info says once its handshake is through, on either side. */
import type { TLSSocket } from 'node:tls';
import type { ConnectionInfo } from '../connection_info.ts';
import type { Certificate } from './certificate.ts';
import { TlsConnectionInfo } from './tls_info.ts';
import { ownCertificate, type TlsMaterial } from './tls_material.ts';
import type { SessionFacts } from './tls_session.ts';

const NONE: readonly Certificate[] = [];

/** `peer` was judged, and found good. */
export function secured(
  info: ConnectionInfo,
  socket: TLSSocket,
  facts: SessionFacts,
  peer: Certificate | undefined,
  material: TlsMaterial,
): TlsConnectionInfo {
  info.alpn = socket.alpnProtocol === false ? undefined : (socket.alpnProtocol ?? undefined);
  info.handshakeEndMs = performance.now();
  const above = peer === undefined ? NONE : material.judge.chainAbove(peer, socket);
  const tls = new TlsConnectionInfo(
    socket,
    facts,
    peer,
    above,
    ownCertificate(socket, material),
    material.judge.verifies,
  );
  info.tls = tls;
  return tls;
}
