/**
 * `npm run layout`: the tree's own rules. Imports point one way (design.md §5), every filter has its test, file names
 * are snake_case, files keep to one idea. Prints each breach; exit 1 if there is one.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

/** Folders, and what their files may import. `types` may be imported as types from anywhere below proxy. */
const RULES: readonly { readonly from: RegExp; readonly never: readonly RegExp[]; readonly says: string }[] = [
  {
    from: /^proxy\/(http1|http2)\//,
    never: [/^proxy\/(?!http1\/|http2\/|http\/|node_buffer)/],
    says: 'codecs import headers and types only',
  },
  {
    from: /^proxy\//,
    never: [/^cli\//, /^config\/(?!resources|build\/)/],
    says: 'the data plane knows no config source and no command',
  },
  {
    from: /^proxy\/(?!main\.ts|worker\.ts|cells\.ts|listener\.ts)/,
    never: [/^filters\//, /^config\/(?!resources)/],
    says: 'only the composition roots know filters and the builder',
  },
  {
    from: /^filters\//,
    never: [/^config\//, /^cli\//, /^filters\/(?!index)/],
    says: 'a filter knows the contracts, never another filter',
  },
  {
    from: /^config\//,
    never: [/^cli\//, /^proxy\/(main|worker)\.ts$/],
    says: 'config knows no command and starts nothing',
  },
  {
    from: /^config\/istio\//,
    never: [/^config\/build\//, /^filters\//],
    says: 'the compiler makes resources and builds nothing',
  },
];
const LONG = 500;
const breaches: string[] = [];

for (const file of globSync('{proxy,filters,config,cli,bench,test}/**/*.ts').sort()) {
  const text = readFileSync(file, 'utf8');
  if (!/(^|\/)[a-z0-9_]+(\.(test|d))?\.ts$/.test(file)) breaches.push(`${file}: file names are snake_case`);
  if (!/^(#!.*\n)?\/\*\*|^import /.test(text)) breaches.push(`${file}: begins with one sentence about itself`);
  const lines = text.split('\n').length;
  if (lines > LONG && !file.startsWith('test/'))
    breaches.push(`${file}: ${lines} lines; above ${LONG} two ideas live there`);
  for (const [, isType, target] of text.matchAll(/^(?:import|export) (type )?[^;'"]*?from '(\.[^']+)'/gm)) {
    const path = normalize(join(dirname(file), target as string));
    if (!existsSync(path)) continue;
    for (const { from, never, says } of RULES) {
      if (isType === undefined && from.test(file) && never.some((pattern) => pattern.test(path))) {
        breaches.push(`${file} imports ${path}: ${says}`);
      }
    }
  }
}
for (const file of globSync('filters/**/*.ts')) {
  const testFile = `test/${file.replace(/\.ts$/, '.test.ts')}`;
  if (!file.endsWith('index.ts') && !existsSync(testFile)) breaches.push(`${file}: its test ${testFile} is missing`);
}
for (const line of breaches) console.error(line);
console.log(breaches.length === 0 ? 'layout: fine' : `layout: ${breaches.length} breaches`);
process.exitCode = breaches.length === 0 ? 0 : 1;
