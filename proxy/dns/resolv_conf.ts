/** The workload's resolver configuration (resolv.conf(5)): whom to ask, and which domains are searched. */
import { isIP } from 'node:net';

export interface ResolvConf {
  readonly servers: readonly { readonly ip: string; readonly port: number }[];
  readonly search: readonly string[];
}

const DNS_PORT = 53;

/** `nameserver ADDRESS` as the resolver reads it; a server in brackets may have a port (for tests). */
export function readResolvConf(text: string): ResolvConf {
  const servers: { ip: string; port: number }[] = [];
  let search: readonly string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line
      .replace(/[#;].*/, '')
      .trim()
      .split(/\s+/);
    const [first = ''] = values;
    if (keyword === 'nameserver') {
      const bracketed = /^\[([^\]]+)\]:(\d+)$/.exec(first);
      const ip = bracketed?.[1] ?? first;
      if (isIP(ip) !== 0) servers.push({ ip, port: Number(bracketed?.[2] ?? DNS_PORT) });
    } else if (keyword === 'search' || keyword === 'domain') search = values;
  }
  return { servers, search };
}
