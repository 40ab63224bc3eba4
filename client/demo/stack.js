// The avatars of those in the team who are online, as document editors show them.

import { avatar, make, text } from './page.js';

/** More are a number. */
const SHOWN_MAX = 6;

export class Stack {
  #list = text('stack');
  /** @type {Map<string, HTMLElement>} */
  #items = new Map();
  #more = make('li', 'more', '');

  /**
   * @param {string[]} names Who is online.
   * @param {number} size How many the team has.
   */
  show(names, size) {
    const shown = names.slice(0, SHOWN_MAX);
    for (const [name, item] of this.#items) {
      if (shown.includes(name)) continue;
      item.remove();
      this.#items.delete(name);
    }
    for (const [place, name] of shown.entries()) {
      const item = this.#items.get(name) ?? this.#make(name);
      // Only if it is not there yet: to be moved would start its animation again.
      if (this.#list.children[place] !== item) this.#list.insertBefore(item, this.#list.children[place] ?? null);
    }
    const more = names.length - shown.length;
    this.#more.textContent = `+${more}`;
    if (more > 0) this.#list.append(this.#more);
    else this.#more.remove();
    text('team-count').textContent = names.length === 0 ? 'Nobody is known to be online' : `${names.length} of ${size} online`;
  }

  /** @param {string} name */
  #make(name) {
    const item = document.createElement('li');
    item.dataset.member = name;
    item.title = name;
    item.append(avatar(name), make('span', 'sr', name));
    this.#items.set(name, item);
    return item;
  }
}
