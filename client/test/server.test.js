// Where there is no DOM: every entry can be imported, and React renders a page in which nobody is known yet.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';

import { PresenceDot, definePresenceDot } from '../presence-dot.js';
import { PresenceProvider, usePresence } from '../react.js';
import { FakePresenceClient } from '../testing.js';

const Friend = ({ userId }) => createElement('i', null, usePresence(userId).state);
const page = (client) => createElement(PresenceProvider, { client }, createElement(Friend, { userId: 'alice' }));

describe('on a server', () => {
  test('there is no DOM, or these tests show nothing', () => {
    assert.deepEqual([typeof window, typeof document, typeof HTMLElement], ['undefined', 'undefined', 'undefined']);
  });

  test('the element is there to be named, and defining it does nothing', () => {
    assert.equal(typeof PresenceDot, 'function');
    definePresenceDot(new FakePresenceClient());
    definePresenceDot();
  });

  test('everyone is unknown, whatever the client knows: the browser, which knows nothing yet, renders the same', () => {
    assert.equal(renderToString(page(new FakePresenceClient({ alice: 'online' }))), '<i>unknown</i>');
    assert.equal(renderToString(page(undefined)), '<i>unknown</i>');
    assert.equal(renderToString(page(null)), '<i>unknown</i>');
  });

  test('nobody is watched', () => {
    const client = new FakePresenceClient();
    renderToString(page(client));
    assert.deepEqual(client.watched, []);
  });

  test('a provider that was forgotten is named', () => {
    const forgotten = createElement(Friend, { userId: 'alice' });
    assert.throws(() => renderToString(forgotten), /usePresence\(\) is called outside of a <PresenceProvider>/);
  });
});
