/** PUSH_PROMISE (RFC 9113 §6.6): we switch push off, so that every one of them is a fault. */
import { ErrorCode } from '../constants.ts';

export const PUSH_PROMISE_ERROR = ErrorCode.PROTOCOL_ERROR;
export const PUSH_PROMISE_REASON = 'PUSH_PROMISE without SETTINGS_ENABLE_PUSH';
