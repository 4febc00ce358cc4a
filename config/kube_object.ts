/** A Kubernetes or Istio object as it was read, with its place in the file. */

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  /** `default` where the file names none. */
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** metadata.creationTimestamp as epoch ms; undefined: order of reading decides. */
  readonly creationMs: number | undefined;
  /** Position in the order of reading, over all files. */
  readonly order: number;
  /** The whole object. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly source: SourceDocument;
}

export interface SourceDocument {
  /** As given on the command line (relative paths stay relative); `<stdin>` for `-`. */
  readonly file: string;
  /** First line of the document in the file, from 1. */
  readonly line: number;
  /** `file:line:col` of a field of the document; of the nearest parent where the field is not there. */
  locate(path: readonly (string | number)[]): string;
}
