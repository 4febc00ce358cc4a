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

export interface Mapping extends ListenAddress {
  readonly host: string;
  readonly servicePort: number;
  readonly text: string;
}

/** `ADDRESS:PORT=HOST:PORT`. @throws {CommandError} */
export function parseMapping(text: string): Mapping {
  const equals = text.indexOf('=');
  const target = /^([A-Za-z0-9*_.-]+):(\d{1,5})$/.exec(text.slice(equals + 1));
  const servicePort = Number(target?.[2]);
  if (equals < 0 || target === null || servicePort < 1 || servicePort > 65535) {
    throw new CommandError(
      exitCodes.usage,
      `--map wants ADDRESS:PORT=HOST:PORT such as 127.0.0.1:5432=db.shop:5432, got "${text}"`,
    );
  }
  return { ...parseAddress(text.slice(0, equals), '--map'), host: target[1] as string, servicePort, text };
}

export function showAddress({ ip, port }: ListenAddress): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
