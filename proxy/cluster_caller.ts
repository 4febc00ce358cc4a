/** Requests that the control thread makes to clusters: a data thread carries them, with its balancer, TLS and limits. */

export interface ClusterCall {
  readonly authority: string;
  readonly path: string;
  /** Lower-case names. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
  readonly timeoutMs: number;
  /** A unary gRPC call: the body is one message, framed on the way. Default false. */
  readonly grpc?: boolean;
}

export interface ClusterCaller {
  has(cluster: string): boolean;
  /** Rejects when the answer is no success (2xx; grpc-status 0), or there is none. @returns the body; of gRPC the message. */
  call(cluster: string, call: ClusterCall): Promise<Buffer>;
}
