// What all parts of the page use: its parameters, its elements, and how it writes times.

const AVATAR_HUES = 12;

export const parameters = new URLSearchParams(location.search);

/** Who this tab is. Empty on the page that asks. */
export const user = parameters.get('user') ?? '';

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} called ${id}`);
  return found;
}

/** @param {string} id */
export const text = (id) => element(id, HTMLElement);

/**
 * @param {ParentNode} parent
 * @param {string} selector
 * @returns {HTMLElement}
 */
export function part(parent, selector) {
  const found = parent.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`the page has no ${selector}`);
  return found;
}

/**
 * @param {string} id Of a template that has one element.
 * @returns {HTMLElement}
 */
export function fromTemplate(id) {
  const copy = /** @type {DocumentFragment} */ (element(id, HTMLTemplateElement).content.cloneNode(true));
  return part(copy, '*');
}

/**
 * A new element with a class and a text.
 *
 * @param {string} tag
 * @param {string} className
 * @param {string} content
 * @returns {HTMLElement}
 */
export function make(tag, className, content) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = content;
  return made;
}

/**
 * Says it to those who listen to the page. Only for what has changed: it interrupts them.
 *
 * @param {string} news
 */
export function announce(news) {
  text('news').textContent = news;
}

/**
 * Where a user's page is.
 *
 * @param {string} name
 */
export function address(name) {
  const every = parameters.get('every');
  return `/?${new URLSearchParams({ user: name, ...(every ? { every } : {}) })}`;
}

/**
 * @param {string} name
 * @returns {HTMLElement}
 */
export function avatar(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 43 + (letter.codePointAt(0) ?? 0)) % 65_521;
  const span = make('span', 'avatar', [...name][0]?.toUpperCase() ?? '');
  span.dataset.hue = String(hash % AVATAR_HUES);
  span.setAttribute('aria-hidden', 'true');
  return span;
}

/** @param {number} unixMs */
export function clock(unixMs) {
  return new Date(unixMs).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds <= 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}

/** Whether the reader is fine with things that move. */
export const mayMove = () => !matchMedia('(prefers-reduced-motion: reduce)').matches;

/**
 * @param {HTMLButtonElement} button
 * @param {() => HTMLElement} source
 */
export function copies(button, source) {
  const label = button.textContent;
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(source().textContent ?? '');
      button.textContent = 'Copied';
    } catch {
      // No permission: the text is at least selected.
      getSelection()?.selectAllChildren(source());
      button.textContent = 'Selected';
    }
    announce(button.textContent);
    setTimeout(() => {
      button.textContent = label;
    }, 2_000);
  });
}

/**
 * Calls back each second while the page is seen.
 *
 * @param {() => void} tick
 */
export function eachSecond(tick) {
  setInterval(() => {
    if (!document.hidden) tick();
  }, 1_000);
}
