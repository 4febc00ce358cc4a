/** The static table of HPACK (RFC 7541 Appendix A): index 1 to 61, name and value alternating from position 2. */

const TABLE =
  '||:authority||:method|GET|:method|POST|:path|/|:path|/index.html|:scheme|http|:scheme|https|:status|200|:status|204|' +
  ':status|206|:status|304|:status|400|:status|404|:status|500|accept-charset||accept-encoding|gzip, deflate|' +
  'accept-language||accept-ranges||accept||access-control-allow-origin||age||allow||authorization||cache-control||' +
  'content-disposition||content-encoding||content-language||content-length||content-location||content-range||' +
  'content-type||cookie||date||etag||expect||expires||from||host||if-match||if-modified-since||if-none-match||' +
  'if-range||if-unmodified-since||last-modified||link||location||max-forwards||proxy-authenticate||' +
  'proxy-authorization||range||referer||refresh||retry-after||server||set-cookie||strict-transport-security||' +
  'transfer-encoding||user-agent||vary||via||www-authenticate|';

/** `staticFields[2 * index]` is the name, `staticFields[2 * index + 1]` the value. */
export const staticFields: readonly string[] = TABLE.split('|');

export const STATIC_ENTRIES = 61;

/** Of each name the first index, and the values that stand at that and the following ones. */
export interface StaticName {
  readonly index: number;
  readonly values: readonly string[];
}

export const staticNames: ReadonlyMap<string, StaticName> = makeNames();

function makeNames(): Map<string, StaticName> {
  const names = new Map<string, StaticName & { values: string[] }>();
  for (let index = 1; index <= STATIC_ENTRIES; index++) {
    const name = staticFields[2 * index] as string;
    const value = staticFields[2 * index + 1] as string;
    let entry = names.get(name);
    if (entry === undefined) {
      entry = { index, values: [] };
      names.set(name, entry);
    }
    if (value !== '') entry.values.push(value);
  }
  return names;
}
