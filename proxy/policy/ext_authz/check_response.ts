/** envoy.service.auth.v3.CheckResponse from bytes. */
import { integerOf, isMessage, type ProtoField, readFields } from '../../telemetry/protobuf_reader.ts';
import type { HeaderChange, Verdict } from './verdict.ts';

const MAX_DEPTH = 16;
const HOW = ['append', 'add_if_absent', 'set', 'overwrite_if_exists'] as const;

/** What cannot be read decides nothing. */
export function decodeCheckResponse(bytes: Buffer): Verdict {
  const fields = readFields(bytes);
  if (fields === undefined) return { kind: 'error', reason: 'the authorizer answered no CheckResponse' };
  const code = integerIn(bodyOf(fields, 1), 1);
  const metadata = bodyOf(fields, 4);
  // google.rpc.Status: 0 is OK, and is what an absent status says.
  if (code !== 0) return denied(bodyOf(fields, 2));
  const ok = readFields(bodyOf(fields, 3));
  if (ok === undefined) return { kind: 'error', reason: 'the authorizer answered an unreadable ok_response' };
  const legacy = ok.find(({ number, wire }) => number === 3 && wire === 2);
  const struct = metadata.length > 0 ? metadata : (legacy?.body ?? metadata);
  return {
    kind: 'ok',
    request: headersIn(ok, 2, 'set'),
    remove: textsIn(ok, 5).map((name) => name.toLowerCase()),
    response: headersIn(ok, 6, 'append'),
    querySet: ok.filter(isMessage(7)).map(({ body }) => {
      const parts = readFields(body) ?? [];
      return [textIn(parts, 1), textIn(parts, 2)];
    }),
    queryRemove: textsIn(ok, 8),
    metadata: struct.length === 0 ? undefined : structOf(struct, 0),
  };
}

function denied(body: Buffer): Verdict {
  const fields = readFields(body) ?? [];
  const status = integerIn(bodyOf(fields, 1), 1);
  return {
    kind: 'denied',
    status: status >= 200 && status < 600 ? status : 403,
    headers: headersIn(fields, 2, 'set'),
    body: textIn(fields, 3),
  };
}

/** envoy.config.core.v3.HeaderValueOption: header 1 { key 1, value 2, raw_value 3 }, append 2, append_action 3. */
function headersIn(fields: readonly ProtoField[], number: number, absent: 'set' | 'append'): HeaderChange[] {
  return fields.filter(isMessage(number)).flatMap(({ body }) => {
    const option = readFields(body) ?? [];
    const header = readFields(bodyOf(option, 1)) ?? [];
    const name = textIn(header, 1).toLowerCase();
    if (name === '') return [];
    const raw = bodyOf(header, 3);
    const value = raw.length > 0 ? raw.latin1Slice() : Buffer.from(textIn(header, 2), 'utf8').latin1Slice();
    return [{ name, value, how: howOf(option, absent) }];
  });
}

function howOf(option: readonly ProtoField[], absent: 'set' | 'append'): HeaderChange['how'] {
  const append = option.find(({ number, wire }) => number === 2 && wire === 2);
  if (append !== undefined) return integerIn(append.body, 1) === 0 ? 'set' : 'append';
  const action = option.find(({ number, wire }) => number === 3 && wire === 0);
  return action === undefined ? absent : (HOW[integerOf(action)] ?? absent);
}

const NONE = Buffer.alloc(0);

function bodyOf(fields: readonly ProtoField[], number: number): Buffer {
  return fields.findLast(isMessage(number))?.body ?? NONE;
}

function textIn(fields: readonly ProtoField[], number: number): string {
  return bodyOf(fields, number).toString('utf8');
}

function textsIn(fields: readonly ProtoField[], number: number): string[] {
  return fields.filter(isMessage(number)).map(({ body }) => body.toString('utf8'));
}

/** 0 where it is not there. */
function integerIn(bytes: Buffer, number: number): number {
  return integerOf(readFields(bytes)?.findLast((item) => item.number === number && item.wire === 0));
}

/** google.protobuf.Struct. */
function structOf(bytes: Buffer, depth: number): Record<string, unknown> {
  const out: [string, unknown][] = [];
  for (const { body } of (readFields(bytes) ?? []).filter(isMessage(1))) {
    const parts = readFields(body) ?? [];
    out.push([textIn(parts, 1), plainValue(bodyOf(parts, 2), depth + 1)]);
  }
  return Object.fromEntries(out);
}

function plainValue(bytes: Buffer, depth: number): unknown {
  const [kind] = readFields(bytes) ?? [];
  if (kind === undefined || depth > MAX_DEPTH) return null;
  switch (kind.number) {
    case 2:
      return kind.body.length === 8 ? kind.body.readDoubleLE(0) : null;
    case 3:
      return kind.body.toString('utf8');
    case 4:
      return integerOf(kind) !== 0;
    case 5:
      return structOf(kind.body, depth);
    case 6:
      return (readFields(kind.body) ?? []).filter(isMessage(1)).map(({ body }) => plainValue(body, depth + 1));
    default:
      return null;
  }
}
