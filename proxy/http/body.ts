/** A piece of body on its way through the filters. */

/** Filters may replace or empty `bytes` in place. Borrowed: valid until the hook returns; keep a copy, not the view. */
export interface MutableBody {
  bytes: Buffer;
}
