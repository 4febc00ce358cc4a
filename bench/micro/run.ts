/** `npm run bench -- micro [access_log|codec|hpack|matcher|balancer|policy|resilience|statistics]`. */
import { globSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

export async function micro(only: string | undefined): Promise<void> {
  const folder = fileURLToPath(new URL('.', import.meta.url));
  const names = globSync('*.ts', { cwd: folder })
    .map((file) => basename(file, '.ts'))
    .filter((name) => !['run', 'harness'].includes(name))
    .sort();
  if (only !== undefined && !names.includes(only)) throw new Error(`micro: one of ${names.join(', ')} is wanted`);
  for (const name of names) {
    if (only !== undefined && name !== only) continue;
    console.log(`${name}:`);
    await import(`./${name}.ts`);
  }
}
