/** %XFCC_VALUE(KEY)%: one value of x-forwarded-client-cert. Source: Envoy docs "x-forwarded-client-cert". */
import { ConfigError } from '../config_error.ts';
import { XFCC } from './client_certificate_header.ts';
import type { Command } from './format_commands.ts';

const KEYS: ReadonlySet<string> = new Set(['by', 'hash', 'cert', 'chain', 'subject', 'uri', 'dns']);

/** @throws {ConfigError} for a key that the header does not have. */
export function clientCertificateValue(argument: string): Command {
  const key = argument.toLowerCase();
  if (!KEYS.has(key)) {
    throw new ConfigError('', `"XFCC_VALUE(${argument})": one of ${[...KEYS].join(', ')} is wanted`);
  }
  return ({ requestHeaders }) => {
    const header = requestHeaders?.joined(XFCC);
    return header === undefined ? undefined : firstValue(header, key);
  };
}

/** The first element that has the key: proxies append, so it is the oldest. undefined: none has, or the header is broken. */
function firstValue(header: string, key: string): string | undefined {
  const elements = splitUnquoted(header, ',');
  for (const element of elements ?? []) {
    for (const pair of splitUnquoted(element, ';') ?? []) {
      const at = pair.indexOf('=');
      if (at > 0 && pair.slice(0, at).trim().toLowerCase() === key) return unquoted(pair.slice(at + 1).trim());
    }
  }
  return undefined;
}

/** undefined: a quote is never closed. */
function splitUnquoted(text: string, separator: string): string[] | undefined {
  const parts: string[] = [];
  let inQuotes = false;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (inQuotes && char === '\\') i++;
    else if (char === '"') inQuotes = !inQuotes;
    else if (char === separator && !inQuotes) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  if (inQuotes) return undefined;
  parts.push(text.slice(start));
  return parts;
}

function unquoted(value: string): string {
  if (value.length < 2 || !value.startsWith('"') || !value.endsWith('"')) return value;
  return value.slice(1, -1).replace(/\\(["\\])/g, '$1');
}
