/** What an external authorizer answered, whatever it speaks. */

export interface HeaderChange {
  readonly name: string;
  readonly value: string;
  readonly how: 'set' | 'append' | 'add_if_absent' | 'overwrite_if_exists';
}

export type Verdict =
  | {
      readonly kind: 'ok';
      readonly request: readonly HeaderChange[];
      /** Lower-case. */
      readonly remove: readonly string[];
      readonly response: readonly HeaderChange[];
      readonly querySet: readonly (readonly [name: string, value: string])[];
      readonly queryRemove: readonly string[];
      readonly metadata: Record<string, unknown> | undefined;
    }
  | {
      readonly kind: 'denied';
      readonly status: number;
      readonly headers: readonly HeaderChange[];
      readonly body: string;
    }
  /** Nothing was decided. */
  | { readonly kind: 'error'; readonly reason: string };

/** What is asked of an authorizer: one request's facts, its body as far as it was kept. */
export interface CheckBody {
  readonly bytes: Buffer;
  /** There was more. */
  readonly partial: boolean;
}
