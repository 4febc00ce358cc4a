/** The documents with which Istio tests its own validation: accepted or refused as each is marked. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, SIDECAR } from './compiled.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/istio-crd-validation');

interface Example {
  readonly title: string;
  readonly yaml: string;
  /** The field that Istio's complaint names; undefined: it names none. */
  readonly field: string | undefined;
}

function examples(file: string): Example[] {
  return readFileSync(join(DATA, file), 'utf8')
    .split(/^---$/m)
    .filter((text) => /^kind:/m.test(text))
    .map((text, index) => {
      const name = /^ {2}name: (\S+)/m.exec(text)?.[1] ?? '';
      const complaint = /^_err: (.*)$/m.exec(text)?.[1] ?? '';
      const path = /(?:^|['" ])(spec(?:\.\w+(?:\[\d+\])?)*|\w+(?:\[\d+\])?(?= in body))/.exec(complaint)?.[1];
      return {
        title: `${file} ${index + 1} ${name}`,
        yaml: text.replace(/^_err: .*\n/m, ''),
        field: path
          ?.split('.')
          .at(-1)
          ?.replace(/\[\d+\]$/, ''),
      };
    });
}

describe("Istio's validation examples", { skip: existsSync(DATA) ? false : `no data at ${DATA}` }, () => {
  for (const file of existsSync(DATA) ? readdirSync(DATA).sort() : []) {
    const valid = file.endsWith('-valid.yaml');
    for (const { title, yaml, field } of examples(file)) {
      it(`compile ${valid ? 'accepts' : 'refuses'} ${title}`, () => {
        const run = () => new Compiled(yaml, { mode: SIDECAR });
        if (valid) {
          run();
          return;
        }
        assert.throws(run, (error: unknown) => {
          assert.ok(error instanceof ConfigError, String(error));
          assert.match(error.origin ?? '', /:\d+:\d+$/);
          if (field !== undefined) assert.match(error.message, new RegExp(`\\b${field}\\b`));
          return true;
        });
      });
    }
  }
});
