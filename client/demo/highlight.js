// Colours for short pieces of code: strings, comments and a few words. No more than the examples need.

import { make } from './page.js';

const PARTS =
  /(?<comment>(?<![:\w"'])\/\/ .*|^# .*)|(?<string>"[^"\n]*"|'[^'\n]*')|(?<word>\b(?:import|export|from|const|async|await|new|return|function)\b)|(?<tag><\/?[\w-]+|(?<=["\w])>)/gm;

/**
 * @param {string} code
 * @returns {(string | HTMLElement)[]}
 */
export function highlighted(code) {
  /** @type {(string | HTMLElement)[]} */
  const parts = [];
  let end = 0;
  for (const match of code.matchAll(PARTS)) {
    const kind = Object.entries(match.groups ?? {}).find(([, found]) => found !== undefined)?.[0] ?? '';
    parts.push(code.slice(end, match.index), make('span', `is-${kind}`, match[0]));
    end = match.index + match[0].length;
  }
  parts.push(code.slice(end));
  return parts;
}
