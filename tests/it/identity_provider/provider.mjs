// A real identity provider, on localhost: the npm package oidc-provider.
//
//     node provider.mjs [CERTIFICATE KEY]
//
// With a certificate it serves https. It prints its issuer, and then obeys commands on stdin, a line each, and answers
// each with a line:
//
//     token ALG        a JWT access token (RFC 9068) of the client alice-ALG, for the resource urn:presence
//     rotate           new keys, which sign from now on; the old ones are published no more
//
// `oidc-provider` comes from the client's node_modules.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const { resolve } = createRequire(new URL('../../../client/package.json', import.meta.url));
const { default: Provider } = await import(pathToFileURL(resolve('oidc-provider')));

// What the package says of its settings is no answer to a command.
console.info = console.warn;

const [certificate, key] = process.argv.slice(2);
const AUDIENCE = 'urn:presence';
let provider;

const serve = (request, response) => provider.callback()(request, response);
const server = certificate
  ? https.createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, serve)
  : http.createServer(serve);
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `${certificate ? 'https' : 'http'}://localhost:${server.address().port}`;

function newKeys() {
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
  };
  return Object.entries(pairs).map(([alg, { privateKey }]) => ({
    ...privateKey.export({ format: 'jwk' }),
    alg,
    kid: randomUUID(),
    use: 'sig',
  }));
}

function start() {
  provider = new Provider(issuer, {
    clients: ['RS256', 'ES256', 'EdDSA'].map((alg) => ({
      client_id: `alice-${alg}`,
      client_secret: 'secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, _resource, client) => ({
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          audience: AUDIENCE,
          jwt: { sign: { alg: client.clientId.split('-')[1] } },
          scope: 'presence:connect presence:read',
        }),
      },
    },
    jwks: { keys: newKeys() },
    scopes: ['presence:connect', 'presence:read'],
  });
}

/** From its own endpoint, as a client gets one. Node's fetch would not trust the certificate of a test. */
function token(alg) {
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    resource: AUDIENCE,
    scope: 'presence:connect presence:read',
  }).toString();
  const options = {
    auth: `alice-${alg}:secret`,
    headers: { 'content-length': body.length, 'content-type': 'application/x-www-form-urlencoded' },
    method: 'POST',
    rejectUnauthorized: false,
  };
  return new Promise((done, failed) => {
    const request = (certificate ? https : http).request(`${issuer}/token`, options, async (response) => {
      let text = '';
      for await (const part of response) text += part;
      const answer = JSON.parse(text);
      answer.access_token ? done(answer.access_token) : failed(new Error(text));
    });
    request.on('error', failed);
    request.end(body);
  });
}

start();
console.log(issuer);
for await (const line of createInterface({ input: process.stdin })) {
  const [command, alg] = line.split(' ');
  if (command === 'rotate') {
    start();
    console.log('rotated');
  } else {
    console.log(await token(alg));
  }
}
process.exit();
