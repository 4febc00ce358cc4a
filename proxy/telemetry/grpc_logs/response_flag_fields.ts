/** Response flags as envoy.data.accesslog.v3.ResponseFlags. */
import type { ResponseFlag } from '../../failures.ts';
import type { ProtobufWriter } from '../protobuf_writer.ts';

/** Field numbers; 0: the message has no field for it. */
const FIELDS: Readonly<Record<ResponseFlag, number>> = {
  LH: 1,
  UH: 2,
  UT: 3,
  LR: 4,
  UR: 5,
  UF: 6,
  UC: 7,
  UO: 8,
  NR: 9,
  DI: 10,
  FI: 11,
  RL: 12,
  UAEX: 13,
  RLSE: 14,
  DC: 15,
  URX: 16,
  SI: 17,
  IH: 18,
  DPE: 19,
  UMSDR: 20,
  RFCF: 21,
  NFCF: 22,
  DT: 23,
  UPE: 24,
  NC: 25,
  OM: 26,
  DF: 27,
  DR: 28,
  DO: 0,
  UDO: 0,
  '': 0,
};
/** ResponseFlags.Unauthorized.Reason.EXTERNAL_SERVICE */
const EXTERNAL_SERVICE = 1;

export function writeResponseFlags(out: ProtobufWriter, field: number, flags: readonly ResponseFlag[]): void {
  const start = out.begin(field);
  for (const flag of flags) {
    const number = FIELDS[flag];
    if (flag === 'UAEX') {
      const unauthorized = out.begin(number);
      out.integer(1, EXTERNAL_SERVICE);
      out.end(unauthorized);
    } else if (number > 0) out.flag(number, true);
  }
  out.end(start);
}
