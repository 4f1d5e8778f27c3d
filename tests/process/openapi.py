"""Holds answers of the HTTP door to share/openapi.json: the few keywords of JSON Schema that it uses."""
import json
import os

from harness import ROOT

TYPES = {'string': str, 'integer': int, 'number': (int, float), 'boolean': bool, 'array': list, 'object': dict}


def load():
    with open(os.path.join(ROOT, 'share', 'openapi.json'), encoding='utf-8') as stream:
        return json.load(stream)


class Checked:
    """Requests to a node whose answers must be what the document says."""

    def __init__(self, node, document=None):
        self.node, self.document = node, document or load()
        self.seen = set()

    def request(self, method, path, body=None, template=None, **more):
        """(status, body); template: the document's path when the given one has parameters."""
        name = template or path.split('?')[0]
        operation = self.document['paths'][name][method.lower()]
        status, answer = self.node.request(method, path, body, **more)
        described = operation['responses'].get(str(status))
        assert described is not None, f'{method} {name} answered {status}, which is not described: {answer}'
        schema = described.get('content', {}).get('application/json', {}).get('schema')
        if schema:
            self.check(schema, answer, f'{method} {name} {status}')
        self.seen.add((method.lower(), name, status))
        return status, answer

    def _resolve(self, schema):
        while '$ref' in schema:
            found = self.document
            for part in schema['$ref'].lstrip('#/').split('/'):
                found = found[part]
            schema = found
        return schema

    def check(self, schema, value, where):
        schema = self._resolve(schema)
        if value is None:
            assert schema.get('nullable') or not schema.get('type'), f'{where}: null'
            return
        if 'oneOf' in schema:
            fits = [one for one in schema['oneOf'] if self._fits(one, value, where)]
            assert len(fits) == 1, f'{where}: fits {len(fits)} of {len(schema["oneOf"])}: {value!r}'[:600]
            return
        kind = schema.get('type')
        if kind:
            assert isinstance(value, TYPES[kind]) and (kind == 'boolean') == isinstance(value, bool), f'{where}: {value!r} is no {kind}'[:400]
        assert value in schema.get('enum', [value]), f'{where}: {value!r} is none of {schema["enum"]}'
        if isinstance(value, list):
            for i, item in enumerate(value):
                self.check(schema.get('items', {}), item, f'{where}[{i}]')
        elif isinstance(value, dict):
            self._check_object(schema, value, where)

    def _check_object(self, schema, value, where):
        known = schema.get('properties', {})
        missing = set(schema.get('required', ())) - set(value)
        assert not missing, f'{where}: {missing} missing in {value}'[:600]
        for name, item in value.items():
            assert name in known or schema.get('additionalProperties', True) is not False, f'{where}: {name} is not described'
            self.check(known.get(name, {}), item, f'{where}.{name}')

    def _fits(self, schema, value, where):
        try:
            self.check(schema, value, where)
        except AssertionError:
            return False
        return True
