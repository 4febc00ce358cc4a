/**
 * CEL over a request or connection: conditions of policies, and the CEL matcher. As in Envoy an expression that fails, or
 * whose value is no truth value, holds for nothing, whatever the action: a DENY policy with it denies nothing.
 * Source: envoy.config.rbac.v3.Policy; xds.type.matcher.v3.CelMatcher; Envoy docs, "Attributes".
 */
import { ConfigError } from '../config_error.ts';
import type { FormatInput } from '../http/formatter.ts';
import type { Fields } from '../resource_fields.ts';
import { streamAttributes } from '../telemetry/cel/attributes.ts';
import { compileCel, compileExpression, type Evaluate, isTrue } from '../telemetry/cel/evaluator.ts';
import { readExpression } from '../telemetry/cel/expression_json.ts';
import { type CelOptions, PLAIN } from '../telemetry/cel/functions.ts';
import type { PolicySubject } from './facts.ts';

export type Condition = (subject: PolicySubject) => boolean;

/** Of a policy; undefined: it has none. @throws {ConfigError} */
export function parseCondition(policy: Fields): Condition | undefined {
  const expression = policy.message('condition');
  if (expression === undefined) {
    // Envoy passes it over, and so enforces less, or denies more, than is written. Beside a condition it says nothing.
    if (policy.has('checked_condition'))
      policy.fail('checked_condition', 'is passed over by Envoy: write it as condition');
    return undefined;
  }
  const options = parseOptions(policy.message('cel_config'));
  return compiled(expression.path, () => compileExpression(readExpression(expression), streamAttributes(), options));
}

/** envoy.config.core.v3.CelExpressionConfig; all of it is off by default. */
function parseOptions(fields: Fields | undefined): CelOptions {
  if (fields === undefined) return PLAIN;
  return {
    conversion: fields.boolean('enable_string_conversion') ?? false,
    concatenation: fields.boolean('enable_string_concat') ?? false,
    textFunctions: fields.boolean('enable_string_functions') ?? false,
  };
}

/** xds.type.v3.CelExpression. @throws {ConfigError} */
export function parseCelExpression(fields: Fields): Condition {
  const text = fields.string('cel_expr_string');
  if (text !== undefined) {
    return compiled(fields.at('cel_expr_string'), () => compileCel(text, streamAttributes(), PLAIN));
  }
  for (const name of ['cel_expr_parsed', 'cel_expr_checked', 'parsed_expr', 'checked_expr']) {
    const parsed = fields.message(name)?.requiredMessage('expr');
    if (parsed !== undefined) {
      return compiled(parsed.path, () => compileExpression(readExpression(parsed), streamAttributes(), PLAIN));
    }
  }
  return fields.fail('cel_expr_parsed', 'one form of CEL expression that this version knows is required');
}

function compiled(path: string, compile: () => Evaluate<FormatInput>): Condition {
  let evaluate: Evaluate<FormatInput>;
  try {
    evaluate = compile();
  } catch (error) {
    if (!(error instanceof ConfigError) || error.path !== '') throw error;
    throw new ConfigError(path, error.message, { cause: error });
  }
  return ({ info, requestHeaders }) =>
    isTrue(evaluate({ info, requestHeaders, responseHeaders: undefined, responseTrailers: undefined }));
}
