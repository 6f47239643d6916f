// kubernetes.mjs FILE
//
// Checks each document of a manifest against the schema of its kind. Prints the
// manifest as JSON, or fails and says what is wrong.
//
// The schemas accept members that they do not know. But what they know they read:
// a member that nothing has read is one that is misspelled.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { parseAllDocuments } from 'yaml';

const require = createRequire(import.meta.url);

function watched(value, path, unread) {
    if (value === null || typeof value !== 'object') {
        return value;
    }

    for (const name of Object.keys(value)) {
        unread.add(`${path}.${name}`);
    }

    return new Proxy(value, {
        get(target, name) {
            unread.delete(`${path}.${String(name)}`);

            return typeof target[name] === 'function'
                ? target[name]
                : watched(target[name], `${path}.${String(name)}`, unread);
        },
    });
}

function check(document) {
    const { apiVersion, kind } = document;
    const { [kind]: Model } = require(`kubernetes-models/${apiVersion}/${kind}`);
    const unread = new Set();

    watched(new Model(document), kind, unread).validate();

    if (unread.size) {
        throw new Error(`unknown: ${[...unread].join(', ')}`);
    }
}

const documents = parseAllDocuments(readFileSync(process.argv[2], 'utf8'))
    .map((document) => {
        if (document.errors.length) {
            throw document.errors[0];
        }

        return document.toJS();
    });

documents.forEach(check);
process.stdout.write(JSON.stringify(documents));
