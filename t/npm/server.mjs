// server.mjs TOKEN_PORT API_PORT
//
// oidc-provider, a certified OAuth 2.0 and OpenID Connect server, over HTTPS,
// and an API that asks it about every token that it is shown, as RFC 7662 says:
// a request is answered with 200 if the server itself calls its token active.
// GET /counts on the API's port: how many tokens were asked for.
//
// The environment: CERT, KEY and CA (files), CLIENT_ID, CLIENT_SECRET, TTL
// (seconds). "ready" on the standard output says that both listen.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

const [tokenPort, apiPort] = process.argv.slice(2).map(Number);
const { CERT, KEY, CA, CLIENT_ID, CLIENT_SECRET, TTL } = process.env;

// version 9 wants Node 20, and bookworm has 18

const { default: Provider } = await import(
    parseInt(process.versions.node) >= 20 ? 'oidc-provider'
                                          : 'oidc-provider-8');

const api = { client_id: 'api', client_secret: 'api' };

const machine = {
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
};

const provider = new Provider(`https://localhost:${tokenPort}`, {
    clients: [
        { client_id: CLIENT_ID, client_secret: CLIENT_SECRET, ...machine },
        { ...api, ...machine },
    ],
    cookies: { keys: ['unused'] },
    features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        introspection: { enabled: true },
    },
    ttl: { ClientCredentials: Number(TTL) },
});

const counts = { granted: 0, refused: 0, shown: 0, active: 0 };

provider.on('grant.success', () => counts.granted++);
provider.on('grant.error', () => counts.refused++);

const ca = readFileSync(CA);
const agent = new https.Agent({ ca, keepAlive: true });

function introspect(token) {
    const body = new URLSearchParams({ token, ...api }).toString();

    const options = {
        host: '127.0.0.1',
        port: tokenPort,
        servername: 'localhost',
        path: '/token/introspection',
        method: 'POST',
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
        agent,
    };

    return new Promise((resolve, reject) => {
        https.request(options, async (answer) => {
            let text = '';
            for await (const part of answer) text += part;
            resolve(JSON.parse(text));
        }).on('error', reject).end(body);
    });
}

async function serveApi(request, response) {
    if (request.url === '/counts') {
        response.end(JSON.stringify(counts));
        return;
    }

    counts.shown++;

    const [, token] = /^Bearer (\S+)$/.exec(request.headers.authorization) ?? [];
    const answer = token ? await introspect(token) : { active: false };

    if (answer.active) counts.active++;

    response.writeHead(answer.active ? 200 : 401,
                       { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ token: answer, now: Date.now() / 1000 }));
}

const listen = (server, port) =>
    new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));

await listen(https.createServer({ cert: readFileSync(CERT),
                                  key: readFileSync(KEY) },
                                provider.callback()), tokenPort);
await listen(http.createServer(serveApi), apiPort);

console.log('ready');

// whoever started it is gone
process.stdin.resume().on('end', () => process.exit());
