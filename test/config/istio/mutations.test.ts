/** Broken objects: whatever a file contains, the compiler answers with resources or with a ConfigError that names a place. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { compile } from '../../../config/istio/compile.ts';
import type { KubeObject } from '../../../config/kube_object.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { kubeObjects } from '../../support/kube_objects.ts';
import { EXPLICIT, SIDECAR } from './compiled.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/istiod-xds');
const ROUNDS = 150;
const STRANGE: readonly unknown[] = [
  null,
  '',
  'constructor',
  '__proto__',
  '*',
  -1,
  0,
  1.5,
  1e99,
  Number.NaN,
  true,
  [],
  [null],
  [[]],
  {},
  JSON.parse('{"__proto__":{"a":1},"constructor":"x"}'),
];

/** A small generator of numbers (mulberry32), so that a failure can be repeated by its seed. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** A copy in which one value, somewhere, is something else. */
function mutate(value: unknown, random: (below: number) => number): unknown {
  if (value === null || typeof value !== 'object' || random(6) === 0) return STRANGE[random(STRANGE.length)];
  const keys = Object.keys(value);
  const key = keys[random(Math.max(1, keys.length))];
  if (key === undefined) return STRANGE[random(STRANGE.length)];
  const changed = mutate((value as Readonly<Record<string, unknown>>)[key], random);
  if (Array.isArray(value)) return value.map((item, index) => (String(index) === key ? changed : item));
  return { ...value, [key]: changed };
}

describe('compile', { skip: existsSync(DATA) ? false : `no data at ${DATA}` }, () => {
  for (const name of existsSync(DATA) ? readdirSync(DATA).sort() : []) {
    it(`compile throws nothing but ConfigError when an object of ${name} is broken`, () => {
      const objects = kubeObjects(readFileSync(join(DATA, name, 'input.yaml'), 'utf8'));
      for (let seed = 0; seed < ROUNDS; seed++) {
        const random = numbers(seed);
        const broken = objects.map((object): KubeObject => {
          if (random(objects.length) > 1) return object;
          const { metadata, ...rest } = object.json;
          return { ...object, json: { ...(mutate(rest, random) as object), metadata } };
        });
        try {
          compile({
            objects: broken,
            mesh: {},
            proxy: {
              name: 'web-v1-0',
              namespace: 'shop',
              labels: { app: 'web' },
              serviceAccount: 'web',
              ips: ['10.44.1.1'],
            },
            domain: 'cluster.local',
            mode: seed % 2 === 0 ? SIDECAR : EXPLICIT,
          });
        } catch (error) {
          assert.ok(error instanceof ConfigError, `seed ${seed}: ${error instanceof Error ? error.stack : error}`);
          assert.ok(error.origin !== undefined, `seed ${seed}: ${error.message} names no place`);
        }
      }
    });
  }
});
