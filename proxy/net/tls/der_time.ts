/** UTCTime and GeneralizedTime as certificates and OCSP responses have them. */
import type { DerElement } from './der.ts';

/** Epoch milliseconds; two digits of a year as RFC 5280 §4.1.2.5.1 says. NaN where it is neither. */
export function timeOf(element: DerElement | undefined): number {
  if (element === undefined) return Number.NaN;
  const text = element.body.latin1Slice();
  const year =
    element.tag === 0x17 ? `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text.slice(0, 2)}` : text.slice(0, 4);
  const rest = text.slice(element.tag === 0x17 ? 2 : 4);
  const part = (at: number): string => rest.slice(at, at + 2);
  return Date.parse(`${year}-${part(0)}-${part(2)}T${part(4)}:${part(6)}:${part(8)}Z`);
}
