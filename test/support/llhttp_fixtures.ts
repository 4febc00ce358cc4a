/** Reads the fixtures of llhttp (nodejs/llhttp test/request/*.md): requests, and the parse or the error that llhttp expects. */
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

export interface LlhttpFixture {
  /** `invalid.md: Invalid methods`; a number behind it where a heading has several. */
  readonly name: string;
  /** `request` is strict; others say in what they are lenient. */
  readonly type: string;
  /** latin1. */
  readonly input: string;
  /** Undefined: llhttp parses it. */
  readonly error: { readonly code: number; readonly reason: string } | undefined;
}

const BLOCK = /^(#+ [^\n]*)$|<!--\s*meta=(\{.*?\})\s*-->\s*```http\n(.*?)```\s*```log\n(.*?)```/gms;

export function llhttpFixtures(folder: string): LlhttpFixture[] {
  const fixtures: LlhttpFixture[] = [];
  for (const file of globSync('*.md', { cwd: folder }).sort()) {
    let heading = '';
    const counts = new Map<string, number>();
    for (const [, title, meta, input, log] of readFileSync(join(folder, file), 'latin1').matchAll(BLOCK)) {
      if (title !== undefined) {
        heading = title.replace(/^#+ /, '');
        continue;
      }
      const { type } = JSON.parse(meta as string) as { readonly type: string };
      const count = (counts.get(heading) ?? 0) + 1;
      counts.set(heading, count);
      const error = /error code=(\d+) reason="(.*)"/.exec(log as string);
      fixtures.push({
        name: `${basename(file)}: ${heading}${count === 1 ? '' : ` (${count})`}`,
        type,
        input: unescaped(input as string),
        error: error === null ? undefined : { code: Number(error[1]), reason: error[2] as string },
      });
    }
  }
  return fixtures;
}

/** As nodejs/llhttp test/md-test.ts does it, in its order. */
function unescaped(text: string): string {
  return text
    .replace(/\n$/, '')
    .replace(/\\\n/g, '')
    .replace(/\n/g, '\r\n')
    .replace(/\\r/g, '\r')
    .replace(/\\n/g, '\n')
    .replace(/\\t/g, '\t')
    .replace(/\\f/g, '\f')
    .replace(/\\x([0-9a-fA-F]+)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replace(/\\([0-7]{1,3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
    .replace(/\$\{(.+?)\}/g, (_, code: string) => repeated(code));
}

/** `'abc'.repeat(3)`, the only code that fixtures hold. */
function repeated(code: string): string {
  const call = /^['"](.*)['"]\.repeat\((\d+)\)$/.exec(code.trim());
  if (call === null) throw new Error(`Cannot read the fixture's code ${code}: want '…'.repeat(n)`);
  return (call[1] as string).repeat(Number(call[2]));
}
