"""The owner of a SEV guest: what happens outside of the host.

Written from the specification (Secure Encrypted Virtualization API,
publication 55766), with a cryptography library of its own, so that it agrees
with the firmware only if both are right.
"""

import base64
import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.exceptions import InvalidSignature

API = (0, 24)
BUILD = 15
CERT_SIZE = 0x824
SIGNED = 0x414
CPU_VERSION = 0x800f12          # of -cpu EPYC
P384 = 2
OCA, PEK, PDH = 0x1001, 0x1002, 0x1003


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def derive(key, label, context=b''):
    """NIST SP 800-108, counter mode: one block is enough for 128 bits"""
    return mac(key, struct.pack('<I', 1) + label.encode() + b'\0' + context +
               struct.pack('<I', 128))[:16]


def ctr(key, iv, data):
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(data)


class Certificate:
    def __init__(self, raw):
        if len(raw) != CERT_SIZE:
            raise ValueError(f'a certificate has {CERT_SIZE} bytes, not '
                             f'{len(raw)}')
        self.raw = raw
        (self.version, self.usage, self.algo, curve) = struct.unpack_from(
            '<I4xIII', raw)
        if curve != P384:
            raise ValueError(f'curve {curve}: expected {P384}, P-384')
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(raw[0x14:0x14 + 72], 'little'),
            int.from_bytes(raw[0x5c:0x5c + 72], 'little'), ec.SECP384R1())
        self.key = numbers.public_key()

    def verify(self, issuer):
        for at in SIGNED, SIGNED + 0x208:
            usage, algo = struct.unpack_from('<II', self.raw, at)
            if usage != issuer.usage:
                continue
            r = int.from_bytes(self.raw[at + 8:at + 80], 'little')
            s = int.from_bytes(self.raw[at + 80:at + 152], 'little')
            issuer.key.verify(utils.encode_dss_signature(r, s),
                              self.raw[:SIGNED], ec.ECDSA(hashes.SHA256()))
            return
        raise InvalidSignature(f'not signed by a key of usage '
                               f'{issuer.usage:#x}')


def sign(raw, key, usage):
    """With the first of the two signatures"""
    r, s = utils.decode_dss_signature(
        key.sign(raw[:SIGNED], ec.ECDSA(hashes.SHA256())))
    signature = (struct.pack('<II', usage, 0x002) + r.to_bytes(72, 'little') +
                 s.to_bytes(72, 'little')).ljust(0x208, b'\0')
    return raw[:SIGNED] + signature + raw[SIGNED + 0x208:]


def certificate(key, usage, algo):
    numbers = key.public_key().public_numbers()
    raw = struct.pack('<IBBHIII', 1, *API, 0, usage, algo, P384)
    raw += numbers.x.to_bytes(72, 'little') + numbers.y.to_bytes(72, 'little')
    raw = raw.ljust(SIGNED, b'\0')
    unsigned = struct.pack('<II', 0x1000, 0).ljust(0x208, b'\0')
    return raw + unsigned + unsigned


def segment(selector, attributes, base=0):
    return struct.pack('<HHIQ', selector, attributes, 0xffff, base)


def vmsa(start, new):
    """The registers with which a processor begins at that address, as Linux
    puts them into a VMSA (sev_es_sync_vmsa()); new: for the newer VM type"""
    page = bytearray(4096)

    def put(at, fmt, *values):
        struct.pack_into('<' + fmt, page, at, *values)
    # es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr
    base = start & 0xffff0000
    page[0:160] = (segment(0, 0x93) + segment(0xf000, 0x9b, base) +
                   segment(0, 0x93) * 4 + segment(0, 0) + segment(0, 0x82) +
                   segment(0, 0) + segment(0, 0x8b))
    put(0xd0, 'Q', 1 << 12)             # EFER.SVME
    put(0x148, 'Q', 1 << 6)             # CR4.MCE, as the host has it
    put(0x158, 'Q', 1 << 4)             # CR0.ET
    put(0x160, 'QQQQ', 0x400, 0xffff0ff0, 2, start & 0xffff)
    put(0x268, 'Q', 0x0007040600070406)     # PAT
    put(0x310, 'Q', CPU_VERSION)        # RDX
    put(0x3e8, 'Q', 1)                  # XCR0
    if new:
        put(0x408, 'I', 0x1f80)         # MXCSR
        put(0x410, 'H', 0x37f)          # x87 control word
    return bytes(page)


class Owner:
    """Trusts whom it verified; makes sessions, checks measurements, and has a
    secret for the guest."""

    SECRET = b'what only the owner and its guest know'.ljust(48, b'.')

    def answer(self, what, *words):
        return getattr(self, 'ask_' + what)(*words)

    def ask_endorse(self, csr):
        """A platform's PEK -> its certificate by us, and ours"""
        pek = Certificate(base64.b64decode(csr))
        if pek.usage != PEK:
            raise ValueError(f'usage {pek.usage:#x}: expected {PEK:#x}')
        key = ec.generate_private_key(ec.SECP384R1())
        oca = sign(certificate(key, OCA, 0x002), key, OCA)
        return ' '.join(base64.b64encode(b).decode()
                        for b in (sign(pek.raw, key, OCA), oca))

    def ask_session(self, pdh, chain, policy):
        """The platform's certificates -> the owner's certificate, a session"""
        pdh = Certificate(base64.b64decode(pdh))
        chain = base64.b64decode(chain)
        pek, oca = (Certificate(chain[i * CERT_SIZE:(i + 1) * CERT_SIZE])
                    for i in range(2))
        for cert, usage in (pdh, PDH), (pek, PEK), (oca, OCA):
            if cert.usage != usage:
                raise ValueError(f'usage {cert.usage:#x}: expected {usage:#x}')
        oca.verify(oca)
        pek.verify(oca)
        pdh.verify(pek)

        policy = int(policy, 0)
        key = ec.generate_private_key(ec.SECP384R1())
        secret = key.exchange(ec.ECDH(), pdh.key)
        nonce, iv = os.urandom(16), os.urandom(16)
        tek, tik = os.urandom(16), os.urandom(16)
        master = derive(secret, 'sev-master-secret', nonce)
        wrapped = ctr(derive(master, 'sev-kek'), iv, tek + tik)
        session = (nonce + wrapped + iv +
                   mac(derive(master, 'sev-kik'), wrapped) +
                   mac(tik, struct.pack('<I', policy)))
        self.policy, self.tek, self.tik = policy, tek, tik
        cert = certificate(key, PDH, 0x003)
        return ' '.join(base64.b64encode(b).decode() for b in (cert, session))

    def ask_measure(self, measurement, digest):
        """Of what was launched, given the SHA-256 of the firmware image"""
        raw = base64.b64decode(measurement)
        measure, nonce = raw[:32], raw[32:]
        expected = mac(self.tik, struct.pack('<BBBBI', 4, *API, BUILD,
                                             self.policy) +
                       bytes.fromhex(digest) + nonce)
        if measure != expected:
            return f'differs measured {measure.hex()} expected {expected.hex()}'
        self.measure = measure
        return 'equal'

    def ask_vmsa(self, start, new):
        """A page, as it is to be measured behind the image"""
        return base64.b64encode(vmsa(int(start, 16), new == 'new')).decode()

    def ask_secret(self):
        """Header and packet, only for a guest that was measured"""
        iv = os.urandom(16)
        data = ctr(self.tek, iv, self.SECRET)
        flags = struct.pack('<I', 0)
        lengths = struct.pack('<II', len(data), len(data))
        tag = mac(self.tik, b'\1' + flags + iv + lengths + data + self.measure)
        return ' '.join(base64.b64encode(b).decode()
                        for b in (flags + iv + tag, data))
