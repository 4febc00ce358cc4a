/** Connections to hosts from an address that is a client's, not the machine's. Linux, with the capability NET_ADMIN. */
import { Socket, type SocketConstructorOpts } from 'node:net';
import {
  bindAddress,
  choosePortAtConnect,
  hasLibc,
  libc,
  makeTransparent,
  setIntOption,
  SOL_SOCKET,
  streamSocket,
} from './libc.ts';

/** Filter state of a connection whose connections to hosts are to come from its client's address: an OriginalSource. */
export const ORIGINAL_SOURCE = 'envoy.filters.listener.original_src';

export interface OriginalSource {
  readonly ip: string;
  /** SO_MARK; 0: none. */
  readonly mark: number;
}

const SO_MARK = 36;

/** undefined: nothing of the kind was asked for. */
export function originalSource(state: ReadonlyMap<string, unknown> | undefined): OriginalSource | undefined {
  return state?.get(ORIGINAL_SOURCE) as OriginalSource | undefined;
}

/** An unconnected socket that comes from there. A string says why there can be none. */
export function socketFrom({ ip, mark }: OriginalSource, options: SocketConstructorOpts): Socket | string {
  if (!hasLibc) return 'the source of a connection can be chosen on Linux only';
  const isV6 = ip.includes(':');
  const fd = streamSocket(isV6);
  if (fd < 0) return 'no socket could be made';
  choosePortAtConnect(fd);
  const made =
    makeTransparent(fd, isV6) && (mark === 0 || setIntOption(fd, SOL_SOCKET, SO_MARK, mark)) && bindAddress(fd, ip, 0);
  if (made) return new Socket({ ...options, fd });
  libc().close(fd);
  return `the address of the client, ${ip}, cannot be taken: the capability NET_ADMIN is missing`;
}
