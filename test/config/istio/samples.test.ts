/** The YAML of Istio's own documentation: every file loads, and what is made of it can be built. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { checkResource } from '../../../config/build/check.ts';
import { compile } from '../../../config/istio/compile.ts';
import { kubeObjects } from '../../support/kube_objects.ts';
import { EXPLICIT, SIDECAR } from './compiled.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/istio-samples');

describe("Istio's samples", { skip: existsSync(DATA) ? false : `no data at ${DATA}` }, () => {
  for (const file of globSync('**/*.{yaml,yml}', { cwd: DATA }).sort()) {
    it(`compile and build take ${file}`, () => {
      const objects = kubeObjects(readFileSync(join(DATA, file), 'utf8'), file);
      for (const mode of [SIDECAR, EXPLICIT]) {
        const { resources } = compile({ objects, mesh: {}, proxy: undefined, domain: 'cluster.local', mode });
        // Without certificates of the mesh a sidecar's secrets come from elsewhere: only the explicit mode stands alone.
        const refused = mode === EXPLICIT ? resources.flatMap((item) => checkResource(item)?.message ?? []) : [];
        assert.deepEqual(refused, []);
      }
    });
  }
});
