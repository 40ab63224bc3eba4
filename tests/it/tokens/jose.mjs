// Keys and tokens made by the npm package jose, as JSON: for each algorithm its public key as PEM and JWK, and a token of
// the claims, or several of a list of claims.
//
//     node jose.mjs CLAIMS_JSON
//
// `jose` comes from the client's node_modules.

import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const { resolve } = createRequire(new URL('../../../client/package.json', import.meta.url));
const { SignJWT, exportJWK, exportPKCS8, exportSPKI, generateKeyPair } = await import(pathToFileURL(resolve('jose')));

const claims = JSON.parse(process.argv[2]);

/**
 * @param {string} algorithm
 * @param {CryptoKey | Uint8Array} key
 */
function tokens(algorithm, key) {
  const header = { alg: algorithm, kid: algorithm, typ: 'JWT' };
  return Promise.all([claims].flat().map((each) => new SignJWT(each).setProtectedHeader(header).sign(key)));
}

const made = [];
for (const name of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA', 'ES512']) {
  const { publicKey, privateKey } = await generateKeyPair(name, { extractable: true });
  const signed = await tokens(name, privateKey);
  made.push({
    name,
    pem: `${await exportSPKI(publicKey)}\n`,
    jwk: { ...(await exportJWK(publicKey)), alg: name, use: 'sig' },
    private: await exportPKCS8(privateKey),
    token: signed[0],
    tokens: signed,
  });
}
for (const [name, bytes] of [
  ['HS256', 32],
  ['HS384', 48],
  ['HS512', 64],
]) {
  const secret = randomBytes(bytes / 2).toString('hex');
  const signed = await tokens(name, Buffer.from(secret));
  made.push({ name, secret, token: signed[0], tokens: signed });
}
process.stdout.write(JSON.stringify(made));
