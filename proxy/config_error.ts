/** The one error type for a fault in a configuration. */

/**
 * A configuration that cannot be used. The message is a sentence for the operator: what is wrong, the value
 * quoted, what is wanted. `path` is the field's path in the resource (`virtual_hosts[0].routes[2].match`).
 */
export class ConfigError extends Error {
  readonly path: string;
  /** `file:line:col` or the xDS server, once whoever knows it has filled it in. */
  origin: string | undefined;

  constructor(path: string, message: string, options?: { cause?: unknown; origin?: string }) {
    super(path === '' ? message : `${path}: ${message}`, options);
    this.name = 'ConfigError';
    this.path = path;
    this.origin = options?.origin;
  }
}
