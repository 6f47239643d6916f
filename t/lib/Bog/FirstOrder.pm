package Bog::FirstOrder;

# The walk of docs/guide.md to an order that is paid: what its reader does but for
# typing, what the bank answers, and what the bank has to see.
#
#   my $first = Bog::FirstOrder->new(bank => $bank, walk => $walk, api => $url);
#   $first->step($_) for $first->steps;
#   $first->check;

use strict;
use warnings;

use Cwd 'abs_path';
use FindBin;
use JSON::PP;
use Test::More;

use Bog::Util 'slurp';
use Bog::Walk;

our $ID = '10000001';
our $SECRET = 'a-secret-of-the-sandbox';

my $order = '5f6a1d5e-0d3c-4c43-9f0b-6a1f0f7c2f10';


# %opt: bank, walk, and the address of the bank's API.

sub new {
    my ($class, %opt) = @_;

    return bless { output => '', %opt }, $class;
}


# All of the page but apt-get and make, which take a network.

sub steps {
    my $page = slurp(abs_path("$FindBin::Bin/../docs/guide.md"));

    my @steps = Bog::Walk::fenced($page);
    $_->{commands} =~ s/^(?:apt-get|make) .*\n//gm for @steps;

    return grep { $_->{commands} ne '' } @steps;
}


sub step {
    my ($self, $step) = @_;

    my ($bank, $commands) = ($self->{bank}, $step->{commands});

    $bank->api_answer(body => $self->_created)
        if $commands =~ /ecommerce\/orders/;
    $bank->api_answer(body => _paid()) if $commands =~ /receipt\//;

    $self->{output} .= $self->{walk}->step($step, asks_secret($step)
                                                  ? "$SECRET\n" : '');
}


# Whether the reader pastes the secret now.

sub asks_secret { $_[0]{commands} =~ /\(umask 077; cat >/ }


# The bank's side of an order, as its documentation has it.

sub _created {
    my $api = $_[0]{api};

    return encode_json({
        id     => $order,
        _links => {
            details  => { href => "$api/payments/v1/receipt/$order" },
            redirect => { href => "https://pay.example/?order_id=$order" },
        },
    });
}


sub _paid {
    return encode_json({
        order_id     => $order,
        order_status => { key => 'completed', value => 'paid' },
    });
}


# The page has been walked to its end, and as it says.

sub check {
    my $self = shift;

    my @requests = $self->{bank}->requests;
    my @api = $self->{bank}->api_requests;

    is(scalar @requests, 1, 'one token request');
    is($requests[0]{client}, $ID, 'with id and secret');

    is_deeply([map { "$_->{method} $_->{uri} $_->{state}" } @api],
              ['POST /payments/v1/ecommerce/orders valid',
               ("GET /payments/v1/receipt/$order valid") x 2],
              'what the API was asked, each with the token');

    is_deeply(decode_json($api[0]{body})->{purchase_units},
              { currency => 'GEL', total_amount => 1,
                basket => [{ quantity => 1, unit_price => 1,
                             product_id => 'test' }] },
              'the order');

    like($api[0]{raw}, qr/^Idempotency-Key:\ [0-9a-f]{8}-[0-9a-f]{4}
                           -4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\r$/mxi,
         'its key');

    is($self->{walk}->meaning('ORDER_ID'), $order, 'ORDER_ID');

    my ($token) = map { $_->{token} } $self->{bank}->tokens;

    unlike($self->{output}, qr/\Q$token\E|\Q$SECRET\E/,
           'no token and no secret is shown');
}


1;
