/** Kubernetes objects from YAML text, for tests of the compiler. */
import { LineCounter, parseAllDocuments } from 'yaml';
import type { KubeObject } from '../../config/kube_object.ts';

/** The objects of a text with several documents, in their order; empty documents are passed over. */
export function kubeObjects(yaml: string, file = 'test.yaml'): KubeObject[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(yaml, { lineCounter: lines });
  const out: KubeObject[] = [];
  if (!Array.isArray(documents)) return out;
  for (const document of documents) {
    const json: unknown = document.toJS();
    if (json === null || typeof json !== 'object') continue;
    const object = json as Record<string, unknown>;
    const metadata = (object['metadata'] ?? {}) as Record<string, unknown>;
    const offset = document.contents?.range?.[0] ?? 0;
    const locate = (path: readonly (string | number)[]): string => {
      for (let length = path.length; length >= 0; length--) {
        const node = document.getIn(path.slice(0, length), true) as
          | { readonly range?: readonly [number, number, number] }
          | undefined;
        if (node?.range === undefined) continue;
        const { line, col } = lines.linePos(node.range[0]);
        return `${file}:${line}:${col}`;
      }
      return file;
    };
    out.push({
      apiVersion: String(object['apiVersion'] ?? ''),
      kind: String(object['kind'] ?? ''),
      name: String(metadata['name'] ?? ''),
      namespace: String(metadata['namespace'] ?? 'default'),
      labels: (metadata['labels'] ?? {}) as Record<string, string>,
      annotations: (metadata['annotations'] ?? {}) as Record<string, string>,
      creationMs: undefined,
      order: out.length,
      json: object,
      source: { file, line: lines.linePos(offset).line, locate },
    });
  }
  return out;
}
