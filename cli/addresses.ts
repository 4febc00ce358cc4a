/** Addresses as flags give them. */
import { isIP } from 'node:net';
import type { ListenAddress } from '../proxy/proxy_options.ts';
import { CommandError, exitCodes } from './exit_codes.ts';

/** `127.0.0.1:15001`, `[::1]:0`, `:15001` (loopback). @throws {CommandError} */
export function parseAddress(text: string, flag: string): ListenAddress {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const ip = match?.[1] ?? (match?.[2] === '' || match?.[2] === 'localhost' ? '127.0.0.1' : match?.[2]);
  const port = Number(match?.[3]);
  if (match === null || ip === undefined || isIP(ip) === 0 || port > 65535) {
    throw new CommandError(exitCodes.usage, `${flag} wants ADDRESS:PORT such as 127.0.0.1:15001, got "${text}"`);
  }
  return { ip, port };
}

export interface InboundAddress extends ListenAddress {
  readonly workloadPort: number;
}

/** `ADDRESS:PORT=WORKLOADPORT`. @throws {CommandError} */
export function parseInbound(text: string): InboundAddress {
  const equals = text.lastIndexOf('=');
  const workloadPort = Number(text.slice(equals + 1));
  if (equals < 0 || !Number.isInteger(workloadPort) || workloadPort < 1 || workloadPort > 65535) {
    throw new CommandError(
      exitCodes.usage,
      `--inbound wants ADDRESS:PORT=WORKLOADPORT such as 127.0.0.1:15006=8080, got "${text}"`,
    );
  }
  return { ...parseAddress(text.slice(0, equals), '--inbound'), workloadPort };
}

export function showAddress({ ip, port }: ListenAddress): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
