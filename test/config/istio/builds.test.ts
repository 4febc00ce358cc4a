/** What the compiler emits, the builders take: every istiod case, in both modes. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { buildCluster } from '../../../config/build/cluster.ts';
import { buildLoadAssignment } from '../../../config/build/endpoints.ts';
import { buildRouteTable } from '../../../config/build/route_configuration.ts';
import type { Resource } from '../../../config/resources.ts';
import { Compiled, EXPLICIT, SIDECAR } from './compiled.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/istiod-xds');

/** Filters are looked up elsewhere; here every configuration of one is taken as it is. */
function build({ type, json, origin }: Resource): void {
  if (type === 'cluster') buildCluster(json, origin);
  else if (type === 'endpoint') buildLoadAssignment(json);
  else if (type === 'route')
    buildRouteTable(json, { origin, filterConfig: (_name, config) => ({ disabled: false, config }) });
}

describe('compile', { skip: existsSync(DATA) ? false : `no data at ${DATA}` }, () => {
  for (const name of existsSync(DATA) ? readdirSync(DATA).sort() : []) {
    for (const mode of [SIDECAR, EXPLICIT]) {
      it(`compile makes resources that build when it compiles ${name} in ${mode.kind} mode`, () => {
        const { resources } = new Compiled(readFileSync(join(DATA, name, 'input.yaml'), 'utf8'), { mode }).result;
        assert.ok(resources.length > 3);
        for (const resource of resources) build(resource);
      });
    }
  }
});
