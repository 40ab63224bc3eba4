// Bundles app.jsx and serves it, and hands out tokens as a back end would: PORT=8000 PRESENCED=http://127.0.0.1:8080/

import { createServer } from 'node:http';
import { build } from 'esbuild';

const port = Number(process.env.PORT ?? 8000);
const edge = new URL(process.env.PRESENCED ?? 'http://127.0.0.1:8080/');

const { outputFiles } = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ['app.jsx'],
  bundle: true,
  minify: true,
  write: false,
  format: 'esm',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
});
const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Friends</title>
<div id="root" data-edge="${new URL('/ws', edge)}"></div>
<script type="module" src="/app.js"></script>`;

const server = createServer(async (request, answer) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  if (pathname === '/app.js') {
    answer.setHeader('Content-Type', 'text/javascript').end(outputFiles[0].text);
  } else if (pathname === '/token') {
    // A real back end looks who is signed in, and signs a token for them. Here everyone is who they say they are, and
    // the edge signs, which it does as long as it has no key of its own.
    const url = new URL('/dev/token', edge);
    url.searchParams.set('user', searchParams.get('user') ?? '');
    try {
      const { token } = await (await fetch(url)).json();
      answer.end(token);
    } catch (error) {
      answer.writeHead(502).end(`no token from ${edge}: ${error}`);
    }
  } else {
    answer.setHeader('Content-Type', 'text/html').end(page);
  }
});
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/?user=alice`));
