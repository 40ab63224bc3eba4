// The token. The edge gives them away itself as long as it has no signing key of its own.

import { text } from './page.js';

/** @param {string} user */
export async function fetchToken(user) {
  let answer;
  try {
    const path = `/dev/token?user=${encodeURIComponent(user)}`;
    answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new Error('The edge does not answer. Is presenced running?');
  }
  const body = await answer.json().catch(() => undefined);
  if (answer.ok && typeof body?.token === 'string') {
    return { token: /** @type {string} */ (body.token), lookUp: /** @type {unknown} */ (body.lookUp) };
  }
  if (answer.status === 404) {
    throw new Error(
      'This edge gives no tokens away: it does so only without a signing key, and only to pages opened at localhost or ' +
        '127.0.0.1. Elsewhere your own back end signs the tokens.',
    );
  }
  const why = body?.error?.message ?? `status ${answer.status}`;
  throw new Error(`No token for “${user}”: ${why}`);
}

/**
 * The edge knows the user's key and the node that has it. Where that takes a password or TLS there is no command.
 *
 * @param {unknown} command
 */
export function showLookUp(command) {
  const isThere = typeof command === 'string';
  text('store').hidden = !isThere;
  if (isThere) text('command').textContent = command;
}
